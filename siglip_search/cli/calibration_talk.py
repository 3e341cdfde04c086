"""The questions of `calibrate`, asked on a terminal or answered from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import shown
from siglip_search.cli.preview_options import print_previews
from siglip_search.render.contact_sheet import Tile

if TYPE_CHECKING:
    from siglip_search.engine.calibration_session import CalibrationSession, Question
    from siglip_search.engine.judgements import Judgement

_KEYS = "[y]es  [n]o  [s]kip  [b]ack  [q]uit"


def talk(
    session: CalibrationSession,
    said: list[Judgement],
    *,
    questions: int,
    preview: str | None,
) -> None:
    """Ask until all is asked, or the user has had enough.

    Args:
        session: What to ask.
        said: Filled with what was answered, as soon as it was; later ones replace former ones.
        questions: At most so many.
        preview: How pictures are shown; see `print_previews`.
    """
    print(f"Does the picture show what the words say?  {_KEYS}")
    before: list[Question] = []
    question = session.next_question()
    while question is not None and len(before) < questions:
        path = session.path(question)
        if path is None:  # it vanished meanwhile
            session.pass_over(question)
            question = session.next_question()
            continue
        print(f"\n{len(before) + 1} of {questions}: {shown(path)}", flush=True)
        print_previews([Tile(path, "")], preview)
        key = _answer(f'  "{shown(question.query)}"? ')
        if key == "q":
            break
        if key == "b":
            question = before.pop() if before else question
            continue
        if key == "s":
            session.pass_over(question)
        else:
            said.append(session.answer(question, matches=key == "y"))
            before.append(question)
        question = session.next_question()
    if question is None:
        print("\nNothing is left to ask; other words ask more: siglip-search calibrate QUERY...")


def _answer(prompt: str) -> str:
    """Return y, n, s, b or q; the end of the input is q."""
    while True:
        print(prompt, end="", flush=True)
        key = _key()
        if key in {"y", "n", "s", "b", "q"}:
            print(key)
            return key
        print(_KEYS)


def _key() -> str:
    """Return one key, in lower case, from a terminal or the first letter of a line."""
    if sys.stdin.isatty():
        try:
            return click.getchar().lower()
        except EOFError:
            return "q"
    line = sys.stdin.readline()
    return line.strip()[:1].lower() if line else "q"
