"""Values of metadata, made clean and plausible: one line of text, a number in range, a time."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Any

from siglip_search.photos.bad_data import BAD_DATA_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAME_CHARACTERS = 100
MAX_TITLE_CHARACTERS = 300
MAX_KEYWORDS = 500

MAX_EXPOSURE_SECONDS = 1e6
MAX_F_NUMBER = 1000.0
MAX_ISO = 10_000_000
MAX_FOCAL_LENGTH_MM = 100_000.0
# From the deepest trench to well above a space station.
MAX_ALTITUDE_M = 1e6

# The first photograph that is left is of 1826 or 1827.
_FIRST_YEAR = 1826
# The time zones in use reach from -12:00 to +14:00.
_MAX_OFFSET_MINUTES = 14 * 60
_MAX_FRACTION_DIGITS = 6
_UTC_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)


def clean_line(value: Any, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """Return one clean line: up to the first NUL, without control and format characters."""
    if isinstance(value, bytes):
        value = value[: 40 * max_characters].decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    value = value.split("\0", 1)[0][: 10 * max_characters]
    # Categories C*: control, format (text direction overrides), surrogate, private, unassigned.
    kept = "".join(
        character if not unicodedata.category(character).startswith("C") else " "
        for character in value
    )
    return " ".join(kept.split())[:max_characters].strip()


def clean_keywords(values: Iterable[Any]) -> tuple[str, ...]:
    """Return keywords as clean lines, each once whatever its case, in their order."""
    found: dict[str, str] = {}
    for value in values:
        word = clean_line(value)
        if word:
            found.setdefault(word.casefold(), word)
        if len(found) == MAX_KEYWORDS:
            break
    return tuple(found.values())


def make_and_model(make: str, model: str) -> str | None:
    """Return the name of a camera or a lens out of two clean lines, None where both say nothing."""
    if not any(character.isalnum() for character in make + model):
        return None  # "----" is what some cameras write for a lens that they do not know
    if make and model:
        # "Canon" + "Canon EOS 5D", "NIKON CORPORATION" + "NIKON D90": the model says it all.
        brand = make.split()[0].casefold()
        name = model if model.casefold().startswith(brand) else f"{make} {model}"
    else:
        name = make or model
    return name[:MAX_NAME_CHARACTERS].strip() or None


def positive_number(value: Any, limit: float) -> float | None:
    """Return a number in (0, limit], None for anything else; a sequence of one counts as one."""
    number = finite_number(value)
    return number if number is not None and 0 < number <= limit else None


def finite_number(value: Any) -> float | None:
    """Return a finite number, None for anything else; a sequence of one counts as one."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        number = float(value)
    except BAD_DATA_ERRORS:
        return None
    return number if math.isfinite(number) else None


def iso_time(parts: Iterable[str | int], *, fraction: str = "", offset: str = "") -> str | None:
    """Return a capture time as ISO 8601, None when there is no such time or no camera yet.

    Args:
        parts: Year, month, day, hour, minute and second.
        fraction: Digits after the second's decimal point; anything else counts as none.
        offset: From UTC, such as "+02:00" or "Z"; anything else counts as none.
    """
    try:
        moment = datetime(*(int(part) for part in parts))  # type: ignore[arg-type]  # six numbers
    except (ValueError, OverflowError):
        # 0000:00:00 is how cameras say that their clock was never set.
        return None
    if moment.year < _FIRST_YEAR:
        return None
    return moment.isoformat() + _fraction(fraction) + _utc_offset(offset)


def _fraction(digits: str) -> str:
    if not _DIGITS.fullmatch(digits):
        return ""
    digits = digits[:_MAX_FRACTION_DIGITS].rstrip("0")
    return f".{digits}" if digits else ""


def _utc_offset(text: str) -> str:
    if text == "Z":
        return "+00:00"
    match = _UTC_OFFSET.fullmatch(text)
    if match is None:
        return ""
    sign, hours, minutes = match.group(1), int(match.group(2)), int(match.group(3))
    if minutes >= 60 or hours * 60 + minutes > _MAX_OFFSET_MINUTES:
        return ""
    return f"{sign}{hours:02}:{minutes:02}"
