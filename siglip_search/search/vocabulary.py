"""The labels that pictures are tagged with: the list that comes with the program, or one's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Final, Self

from siglip_search.errors import QueryError
from siglip_search.search.classify import check_labels, check_templates

DEFAULT_NAME: Final = "default"
"""What the list that comes with the program is called."""

MAX_LABELS: Final = 2000
MAX_LABEL_CHARACTERS: Final = 100
"""As many as a keyword has, which a label becomes in a sidecar."""

_COMMENT: Final = "#"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Labels, and the ways of saying them.

    Attributes:
        name: Where they are from: "default", or the path of a file.
        labels: Each once, in their order; 1 to `MAX_LABELS`.
        templates: Each with {} where a label goes.
    """

    name: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_templates(self.templates)
        if len(self.labels) > MAX_LABELS:
            raise QueryError(
                f"{self.name} has {len(self.labels):,} labels",
                hint=f"At most {MAX_LABELS:,} are scored; leave out the rarest.",
            )

    def to_json(self) -> str:
        """Return it as one JSON object on one line."""
        return json.dumps({"format": _FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote.

        Raises:
            ValueError: It is no such object, or a newer one.
        """
        value = json.loads(text)
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise ValueError(f"this is no vocabulary of format {_FORMAT}")
        try:
            return cls(str(value["name"]), _texts(value["labels"]), _texts(value["templates"]))
        except (KeyError, TypeError, QueryError) as error:
            raise ValueError(f"a part is missing or impossible: {error}") from error


def default_text() -> str:
    """Return the list that comes with the program, with its sections as comments."""
    file = resources.files("siglip_search.search").joinpath("labels.txt")
    return file.read_text(encoding="utf-8")


def labels_in(text: str, *, name: str) -> tuple[str, ...]:
    """Return the labels of a list: one a line, without blank lines and those that begin with #.

    Args:
        text: The list.
        name: Where it is from, for messages.

    Raises:
        QueryError: There is no label, one holds no words, is too long or stands there twice.
    """
    lines = {
        # Not splitlines(), which also ends a line where no editor does.
        number: line.strip()
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith(_COMMENT)
    }
    for number, label in lines.items():
        if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
            wrong = "is longer" if label.isprintable() else "holds signs that cannot be shown"
            raise QueryError(
                f"{name}, line {number}, {wrong}"
                + (f" than {MAX_LABEL_CHARACTERS} signs" if label.isprintable() else ""),
                hint="A label is a word or a few, one label a line.",
            )
    return check_labels(
        list(lines.values()), origins=[f"{name}, line {number}," for number in lines]
    )


def default_vocabulary(templates: tuple[str, ...]) -> Vocabulary:
    """Return the labels that come with the program, to be said in these ways."""
    return Vocabulary(DEFAULT_NAME, labels_in(default_text(), name="labels.txt"), templates)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("a list of texts is expected")
    return tuple(value)
