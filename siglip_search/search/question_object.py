"""Questions as JSON knows them: for the daemon, and to be kept."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import QueryError
from siglip_search.search.question import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.search.question import Term


def question_as_object(question: Question) -> dict[str, Any]:
    """Return a question as an object for JSON, without what is at its default.

    Paths that are not text stand in it as os.fsdecode leaves them.
    """
    plain = Question()
    value: dict[str, Any] = {}
    for name in (known.name for known in fields(Question)):
        part = getattr(question, name)
        if part == getattr(plain, name):
            continue
        if name == "where":
            # Here: most questions have no filter.
            from siglip_search.search.filters import where_as_object

            part = where_as_object(part)
        value[name] = part
    return value


def question_from_object(value: object) -> Question:
    """Return the question that `question_as_object` made an object of.

    It has still to be `checked`.

    Raises:
        QueryError: It is none: another version made it, perhaps, or somebody edited it.
    """
    if not isinstance(value, dict):
        raise _no_question("an object was expected")
    parts: dict[str, Any] = {}
    for name, part in value.items():
        if name == "where":
            from siglip_search.search.filters import where_from_object

            parts[name] = where_from_object(part)
            continue
        read = _READ.get(name)
        if read is None:
            raise _no_question(f"{name!r} is not known")
        try:
            parts[name] = read(part)
        except (TypeError, ValueError, OverflowError):
            raise _no_question(f"{name!r} cannot be {part!r}") from None
    return Question(**parts)


def _no_question(why: str) -> QueryError:
    return QueryError(
        f"the question has no meaning here: {why}",
        hint="Ask it again; another version of the program may have kept it.",
    )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return list(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _terms(value: object) -> tuple[Term, ...]:
    terms = []
    for term in _list(value):
        text, weight = _list(term)
        terms.append((_text(text), _number(weight)))
    return tuple(terms)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _number_if_any(value: object) -> float | None:
    return None if value is None else _number(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_READ: Final[dict[str, Callable[[object], Any]]] = {
    "words": _text,
    "like": _texts,
    "like_photo": lambda value: tuple(map(_whole, _list(value))),
    "plus": _terms,
    "minus": _terms,
    "without": _texts,
    "all_of": _texts,
    "any_of": _texts,
    "templates": _flag,
    "top_k": _whole,
    "offset": _whole,
    "sort": _text,
    "min_probability": _number_if_any,
    "min_calibrated": _number_if_any,
    "min_similarity": _number_if_any,
    "places": _texts,
}
