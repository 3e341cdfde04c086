"""The facts of a photo as columns of its row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from siglip_index.locations import storable_text
from siglip_index.records import PhotoFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

FACT_COLUMNS = (
    "width",
    "height",
    "format",
    "taken_at",
    "taken_source",
    "camera",
    "lens",
    "exposure_seconds",
    "f_number",
    "iso",
    "focal_length_mm",
    "latitude",
    "longitude",
    "altitude_m",
    "rating",
    "title",
    "keywords",
    "metadata_version",
)
_NO_KEYWORDS = "[]"


def fact_values(facts: PhotoFacts) -> list[int | float | str | None]:
    """Return what the columns `FACT_COLUMNS` hold for these facts."""
    return [_stored(name, getattr(facts, name)) for name in FACT_COLUMNS]


def facts_of(values: Sequence[Any]) -> PhotoFacts:
    """Return the facts of which the columns `FACT_COLUMNS` hold these values."""
    named = dict(zip(FACT_COLUMNS, values, strict=True))
    keywords = named["keywords"]
    # Nearly all are empty: not worth a parser for each result.
    named["keywords"] = () if keywords == _NO_KEYWORDS else tuple(json.loads(keywords))
    return PhotoFacts(**named)


def _stored(name: str, value: Any) -> int | float | str | None:
    if name == "keywords":
        return json.dumps([storable_text(word) for word in value], ensure_ascii=False)
    if isinstance(value, str):
        return storable_text(value)
    return value  # type: ignore[no-any-return]  # a number or None, as PhotoFacts has it
