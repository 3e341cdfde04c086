"""docs/formats.md says what the tables in the code say."""

from __future__ import annotations

import re
from pathlib import Path

from siglip_search.photos import formats
from siglip_search.photos.raw import PREVIEW_MIN_SIDE

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text("utf-8")


def test_extensions_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| ([a-z0-9 ]+) \|", DOCUMENT, re.MULTILINE))
    assert set(rows.pop("RAW").encode().split()) == formats.RAW_EXTENSIONS
    assert rows.pop("format") == "extensions"
    assert len(rows) == 10
    for name, extensions in rows.items():
        assert set(extensions.encode().split()) == formats.EXTENSIONS_BY_FORMAT[name]


def test_preview_size_is_that_of_the_code() -> None:
    assert f"{PREVIEW_MIN_SIDE:,} pixels" in DOCUMENT
