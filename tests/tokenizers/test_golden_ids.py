"""Ids that the references gave, stored: made by `python scripts/make_tokenizer_goldens.py`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from siglip_search.tokenizers.clip_bpe import ClipBpeTokenizer
from siglip_search.tokenizers.unigram import UnigramTokenizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tokenizers"


def load(name: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))
    assert len(golden["ids"]) >= 100
    return golden


def check(tokenizer: ClipBpeTokenizer | UnigramTokenizer, golden: dict[str, Any]) -> None:
    rows = tokenizer.encode([text for text, _ in golden["ids"]])
    for row, (text, ids) in zip(rows, golden["ids"], strict=True):
        assert row.tolist() == ids, ascii(text)


@pytest.mark.parametrize(
    ("name", "pad_id", "rule"),
    [
        ("siglip", 1, "lowercase-no-punctuation"),
        ("siglip_i18n", 1, "lowercase-no-punctuation"),
        ("siglip2", 0, "lowercase"),
    ],
)
def test_sentencepiece_ids_are_the_references(
    tmp_path: Path, name: str, pad_id: int, rule: Any
) -> None:
    golden = load(name)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(base64.b64decode(golden["model_base64"]))
    tokenizer = UnigramTokenizer(
        path, canonicalize=rule, length=golden["length"], pad_id=pad_id, end_id=1
    )
    check(tokenizer, golden)


def test_clip_ids_are_the_references(tmp_path: Path) -> None:
    golden = load("clip")
    path = tmp_path / "merges.txt"
    path.write_text("\n".join(["#version: 0.2", *golden["merges"], ""]), encoding="utf-8")
    start_id = 512 + len(golden["merges"])
    tokenizer = ClipBpeTokenizer(
        path,
        canonicalize="clip",
        length=golden["length"],
        pad_id=0,
        start_id=start_id,
        end_id=start_id + 1,
    )
    check(tokenizer, golden)
