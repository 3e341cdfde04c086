"""Scale and bias out of a safetensors file."""

from __future__ import annotations

import math
import struct

import pytest
from stand_in_hub import safetensors

from siglip_search.errors import ModelError
from siglip_search.models.checkpoint_scalars import read_scale_and_bias


def read(content: bytes) -> tuple[float, float | None]:
    return read_scale_and_bias(lambda start, count: content[start : start + count], where="weights")


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("kind", "shape", "raw"),
    [
        ("F32", [], struct.pack("<f", 4.75)),
        ("F64", [1], struct.pack("<d", 4.75)),
        ("F16", [1], struct.pack("<e", 4.75)),
        ("BF16", [1], struct.pack("<f", 4.75)[2:]),
    ],
)
def test_a_scale_of_any_float_type_is_read(kind: str, shape: list[int], raw: bytes) -> None:
    assert read(safetensors({"logit_scale": (kind, shape, raw)})) == (math.exp(4.75), None)


def test_the_bias_is_read_as_it_stands() -> None:
    numbers = {"logit_scale": 4.75, "logit_bias": -16.5}
    tensors = {name: ("F32", [1], struct.pack("<f", value)) for name, value in numbers.items()}
    assert read(safetensors(tensors)) == (math.exp(4.75), -16.5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors({"weight": ("F32", [1], bytes(4))}), "has no logit_scale"),
        (safetensors({"logit_scale": ("F32", [2], bytes(8))}), "not as one number"),
        (safetensors({"logit_scale": ("F32", [768], bytes(3072))}), "of 3072 bytes, not as one"),
        (safetensors({"logit_scale": ("I8", [1], bytes(1))}), "not as one number"),
        (
            safetensors({"logit_scale": ("F32", [1], struct.pack("<f", 112.3))}),
            "no logarithm of a scale",
        ),
        (
            safetensors({"logit_scale": ("F32", [1], struct.pack("<f", math.nan))}),
            "no logarithm of a scale",
        ),
        (b"", "not a safetensors file"),
        (b"abc", "not a safetensors file"),
        (b"<!doctype html><html></html>", "not a safetensors file"),
        (header("nope"), "not a safetensors file"),
        (header("{}")[:9], "not a safetensors file"),
        (header("[]"), "not a safetensors file"),
        (header('{"logit_scale": 1}'), "not a safetensors file"),
        (
            header('{"logit_scale": {"dtype": "F32", "data_offsets": [8, 4]}}'),
            "not a safetensors file",
        ),
        (
            header('{"logit_scale": {"dtype": "F32", "data_offsets": ["a", "b"]}}'),
            "not a safetensors file",
        ),
        (
            header('{"logit_scale": {"dtype": "F32", "data_offsets": [0, 4]}}'),
            "not as one number",
        ),
    ],
)
def test_other_content_is_refused_in_one_line(content: bytes, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(content)
    assert words in str(caught.value)
    assert str(caught.value).startswith("weights ")
    assert caught.value.hint
