r"""Rows in a format of the user's own: "{probability:.2f} {path}".

Python's format language, reduced to names and presentation. Attributes, indices and nested fields
are refused, so that a format out of a file or from somebody else reaches nothing but the values
that it is given.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WIDTH: Final = 1000
"""Longest padding, in characters, and most digits behind the point."""

_SPECIFICATION: Final = re.compile(
    # Python's format specification: fill and alignment, sign, alternative form, zeros, width,
    # grouping, precision and type.
    r"(?:.?[<>=^])?[-+ ]?z?#?0?(?P<width>\d{1,9})?[,_]?(?:\.(?P<precision>\d{1,9}))?[a-zA-Z%]?",
    re.DOTALL,
)
_ESCAPES: Final = {"\\": "\\", "t": "\t", "n": "\n"}
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_EXAMPLES: Final[Mapping[str, object]] = {"float": 0.5, "int": 1, "str": "a"}
_HINT: Final = "Write it like this: --format '{probability:.2f} {path}'"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    specification: str


class RowFormat:
    r"""A format that was understood.

    A value that is not known (None) is written as nothing, padded to the width that was asked
    for; several values are joined by ", ".

    Args:
        template: Text with names in braces, each with a specification of Python's behind a colon
            if need be; \t, \n and \\ stand for a tab, a newline and a backslash, {{ and }} for
            braces.
        kinds: The names that may be used, each with "float", "int" or "str".

    Raises:
        QueryError: The template has no meaning.
    """

    def __init__(self, template: str, *, kinds: Mapping[str, str]) -> None:
        self._parts = tuple(_parts(template, kinds))

    def written(self, values: Mapping[str, object]) -> str:
        """Return the values as the template says.

        Args:
            values: By name, of the kinds that were announced, or None, or several in a tuple.
        """
        return "".join(
            part if isinstance(part, str) else _written(values.get(part.name), part.specification)
            for part in self._parts
        )


def _parts(template: str, kinds: Mapping[str, str]) -> list[str | _Field]:
    parts: list[str | _Field] = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise QueryError(f"the format {template!r} has no meaning: {error}", hint=_HINT) from None
    for text, name, specification, conversion in parsed:
        parts.append(_unescaped(text, template))
        if name is None:
            continue
        if name not in kinds:
            raise QueryError(
                f"the format {template!r} asks for {name!r}, which a result does not have",
                hint=f"There are: {', '.join(kinds)}.",
            )
        field = _Field(name, specification or "")
        if conversion or not _is_sound(field, kinds[name]):
            written = f"!{conversion}" if conversion else f":{specification}"
            raise QueryError(
                f"the format {template!r} cannot write {name} as {written!r}", hint=_HINT
            )
        parts.append(field)
    return parts


def _unescaped(text: str, template: str) -> str:
    def character(found: re.Match[str]) -> str:
        try:
            return _ESCAPES[found[1]]
        except KeyError:
            raise QueryError(
                f"the format {template!r} holds {found[0]!r}, which has no meaning",
                hint=r"There are \t, \n and \\.",
            ) from None

    return _ESCAPE.sub(character, text)


def _is_sound(field: _Field, kind: str) -> bool:
    found = _SPECIFICATION.fullmatch(field.specification)
    if found is None:
        return False
    if any(int(number or 0) > MAX_WIDTH for number in found.group("width", "precision")):
        return False
    try:
        format(_EXAMPLES[kind], field.specification)
    except ValueError:
        return False
    return True


def _written(value: object, specification: str) -> str:
    if isinstance(value, tuple | list):
        value = ", ".join(map(str, value))
    if value is None:
        found = _SPECIFICATION.fullmatch(specification)
        width = found["width"] if found else None
        return " " * int(width or 0)
    return format(value, specification)
