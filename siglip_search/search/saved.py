"""A question that is kept under a name, with times that stay relative: "the last three weeks"."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import QueryError
from siglip_search.search.question_object import question_as_object, question_from_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from siglip_search.search.question import Question

MAX_NAME_LENGTH: Final = 100

_TIMES: Final = {"after": "taken_from", "before": "taken_before", "changed_within": "changed_from"}
"""What --after, --before and --changed-within say, under the names that `chosen_filter` has."""


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A question and its name.

    Attributes:
        name: As the user calls it; see `checked_name`.
        question: What is asked; its times are those of the moment when it was saved.
        times: What was written for --after, --before and --changed-within ("after", "before",
            "changed_within"), to be understood anew each time.
        album: Absolute path of the folder that holds links to what it finds; None for none.
    """

    name: str
    question: Question
    times: Mapping[str, str] = field(default_factory=dict)
    album: str | None = None

    def asked_at(self, now: datetime) -> Question:
        """Return the question as it is meant at a time.

        Args:
            now: The local clock, without time zone.
        """
        if not self.times:
            return self.question
        from siglip_search.search.filters import changed_since, moment_of

        readers: dict[str, Any] = {
            "after": lambda typed: moment_of(typed, "--after", now),
            "before": lambda typed: moment_of(typed, "--before", now),
            "changed_within": lambda typed: changed_since(typed, "--changed-within", now),
        }
        meant = {_TIMES[name]: readers[name](typed) for name, typed in self.times.items()}
        return replace(self.question, where=replace(self.question.where, **meant))


def checked_name(name: str) -> str:
    """Return the name of a saved search without surrounding space.

    Raises:
        QueryError: It is empty, too long, or holds what no line can show.
    """
    bare = name.strip()
    if not bare or len(bare) > MAX_NAME_LENGTH or not bare.isprintable():
        raise QueryError(
            f"{name!r} is no name for a search",
            hint=f"Use 1 to {MAX_NAME_LENGTH} printable characters: siglip-search save beach ...",
        )
    return bare


def saved_as_text(saved: SavedSearch) -> str:
    """Return a saved search as JSON, without its name."""
    value = {
        "question": question_as_object(saved.question),
        "times": dict(saved.times),
        "album": saved.album,
    }
    return json.dumps(value)


def saved_from_text(name: str, text: str) -> SavedSearch:
    """Return the saved search that `saved_as_text` made this of.

    Raises:
        QueryError: It is none, or one of a newer version.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    match value:
        case {"question": question, "times": dict(times), "album": None | str() as album} if all(
            key in _TIMES and isinstance(typed, str) for key, typed in times.items()
        ):
            return SavedSearch(name, question_from_object(question), times, album)
    raise QueryError(
        f"the saved search {name!r} has no meaning here",
        hint="A newer version saved it, perhaps; save it again, or update the program.",
    )
