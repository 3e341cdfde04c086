"""The options that say what is asked, the same for every command that takes a question."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from siglip_search.cli.filter_options import chosen_filter
from siglip_search.errors import PathError, QueryError
from siglip_search.search.question import (
    SORTS,
    Question,
    checked,
    require_words,
    weighted_term,
)
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

F = TypeVar("F", bound="Callable[..., Any]")

STANDARD_INPUT: Final = "-"

_META_KEY: Final = "siglip_search.question_options"
_PIPED_KEY: Final = "siglip_search.question_options.standard_input"

# No picture is as large; whoever pipes /dev/zero is told before the disk is full.
_MOST_BYTES: Final = 4 * 1024**3
_BLOCK_BYTES: Final = 1024 * 1024

_PAGE: Final = {"top_k": "top", "offset": "offset", "sort": "sort"}


class Asked(NamedTuple):
    """What somebody asks on the command line.

    Attributes:
        question: Checked, with absolute paths; a picture from standard input is a file by now.
        text: The same for people, with paths as they were typed.
    """

    question: Question
    text: str


def question_options(command: F) -> F:
    """Add the options to a command; what was written is fetched with `asked_question`.

    Its conditions on pictures come from `filter_options`, which the command has to have as well.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_question(context: click.Context, words: Sequence[str]) -> Asked:
    """Return what the words and the options of the running command ask.

    Args:
        context: Of the command; when it ends, a picture from standard input is deleted again.
        words: The command's arguments, as they were typed.

    Raises:
        click.UsageError: Nothing is asked.
        QueryError: The question cannot be answered; see `checked`.
        PathError: A path has no meaning.
    """
    typed: dict[str, Any] = context.meta.get(_META_KEY, {})
    chosen = chosen_filter(context)
    text = " ".join(words)
    if words:
        require_words(text)
    question = Question(
        words=text,
        like=typed.get("like", ()),
        plus=tuple(map(weighted_term, typed.get("plus", ()))),
        minus=tuple(map(weighted_term, typed.get("minus", ()))),
        without=typed.get("without", ()),
        all_of=typed.get("all_of", ()),
        any_of=typed.get("any_of", ()),
        templates=typed["templates"],
        top_k=typed["top"],
        offset=typed["offset"],
        sort=typed["sort"],
        min_probability=typed.get("min_probability"),
        min_calibrated=typed.get("min_calibrated"),
        min_similarity=typed.get("min_similarity"),
        where=chosen.where,
        places=chosen.places,
    )
    if question.is_empty:
        raise click.UsageError(
            "Missing argument 'WORDS...': say what is in the picture, name one with --like, "
            "or give a filter such as --after 2024."
        )
    question = checked(question)
    if question.like.count(STANDARD_INPUT) > 1:
        raise click.UsageError("--like - reads standard input once.")
    return Asked(
        replace(question, like=tuple(_file(context, path) for path in question.like)),
        str(question),
    )


def reads_standard_input(context: click.Context) -> bool:
    """Tell whether the running command is to read a picture from standard input."""
    return STANDARD_INPUT in context.meta.get(_META_KEY, {}).get("like", ())


@contextmanager
def standard_input_named(context: click.Context) -> Iterator[None]:
    """Let errors speak of standard input, not of the file that it was written to."""
    try:
        yield
    except PathError as error:
        path = context.meta.get(_PIPED_KEY)
        if path is None or path not in str(error):
            raise
        said = str(error).replace(path, "standard input")
        raise PathError(said, hint=error.hint) from error


def paged(context: click.Context, question: Question) -> Question:
    """Return a question that was kept, with the page and the order that are asked for now.

    Raises:
        click.UsageError: The command line asks something else as well.
    """
    typed: dict[str, Any] = context.meta.get(_META_KEY, {})
    given = {
        name: value
        for name, value in typed.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    page = {name: given.pop(typed_as) for name, typed_as in _PAGE.items() if typed_as in given}
    if given or not chosen_filter(context).is_empty:
        raise click.UsageError(
            "--saved asks what was saved: only -n, --offset and --sort go with it."
        )
    return checked(replace(question, **page))


def _file(context: click.Context, typed: str) -> str:
    return _from_standard_input(context) if typed == STANDARD_INPUT else str(absolute_path(typed))


def _from_standard_input(context: click.Context) -> str:
    """Write the picture that is piped in to a file, which goes when the command ends."""
    if sys.stdin is None or sys.stdin.isatty():
        raise QueryError(
            "--like - reads a picture from standard input, and none is piped in",
            hint="For example: siglip-search query --like - < holiday.jpg",
        )
    from pathlib import Path
    from tempfile import TemporaryDirectory

    folder = context.with_resource(TemporaryDirectory(prefix="siglip-search-"))
    path = Path(folder) / "standard-input"
    context.meta[_PIPED_KEY] = str(path)
    size = 0
    with path.open("wb") as file:
        while block := sys.stdin.buffer.read(_BLOCK_BYTES):
            size += len(block)
            if size > _MOST_BYTES:
                raise QueryError(
                    "what is piped in is no picture: it does not end",
                    hint="Pipe one picture file into the command.",
                )
            file.write(block)
    if size == 0:
        raise QueryError(
            "standard input is empty", hint="Did the command before the pipe write a picture?"
        )
    return str(path)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is None or value == ():
        return
    context.meta.setdefault(_META_KEY, {})[option.name] = value


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def _each(*names: str, metavar: str, help: str, **settings: Any) -> Callable[[F], F]:  # noqa: A002
    return _option(*names, metavar=metavar, multiple=True, help=help, **settings)


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    _option(
        "-n",
        "--top",
        "top",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="At most so many.",
    ),
    _option(
        "--offset",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Pass over so many first: --offset 10 shows the second page of ten.",
    ),
    _option(
        "--sort",
        type=click.Choice(SORTS),
        default="score",
        show_default=True,
        help="Best first, newest first or by file name: all that match, not only the best.",
    ),
    _each(
        "--like",
        metavar="FILE",
        type=click.Path(),
        help="Pictures like this one, indexed or not; - reads it from standard input.",
    ),
    _each(
        "--plus",
        metavar="TEXT[=WEIGHT]",
        help="First what is nearer to this, such as beach or beach=2; again for more. Beside "
        "words it shifts the order and lets nothing in.",
    ),
    _each(
        "--minus",
        metavar="TEXT[=WEIGHT]",
        help="First what is further from this. It shifts the order and leaves nothing out; again "
        "for more.",
    ),
    _each(
        "--not",
        "without",
        metavar="TEXT",
        help="Leave out what matches this; again for more.",
    ),
    _each("--all-of", metavar="TEXT", help="Match this as well; again for all of several."),
    _each("--any-of", metavar="TEXT", help="Match this or another --any-of."),
    _option(
        "--templates/--no-templates",
        default=False,
        help='Say each text in several ways ("a photo of a ..."), and take the mean.',
    ),
    _option(
        "--min-probability",
        type=click.FloatRange(0, 1),
        help="Smallest match probability of a result, as the model itself states it.",
    ),
    _option(
        "--min-calibrated",
        type=click.FloatRange(0, 1),
        help="Smallest calibrated probability of a result.  [default: the calibration's cut, or "
        "else the model's own for --min-probability]",
    ),
    _option(
        "--min-similarity",
        type=click.FloatRange(-1, 1),
        help="Smallest cosine of a result; with --like, and with --plus and --minus without words, "
        "there is no other cut.",
    ),
)
