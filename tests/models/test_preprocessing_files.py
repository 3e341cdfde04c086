"""The three kinds of JSON file that say how a picture is prepared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from stand_in_hub import preprocessor_config

from siglip_search.errors import ModelError
from siglip_search.models.preprocessing_files import (
    Preprocessing,
    parse_preprocessing,
    read_preprocessing,
)

if TYPE_CHECKING:
    from pathlib import Path

HALF = (0.5, 0.5, 0.5)
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
SIGLIP = Preprocessing((384, 384), "squash", "bicubic", HALF, HALF)

IMMICH = {
    "size": [384, 384],
    "mode": "RGB",
    "mean": HALF,
    "std": HALF,
    "interpolation": "bicubic",
    "resize_mode": "squash",
    "fill_color": 0,
}
MOBILECLIP = {
    "model_cfg": {"embed_dim": 768, "vision_cfg": {"image_size": 256}},
    "preprocess_cfg": {
        "mean": OPENAI_MEAN,
        "std": OPENAI_STD,
        "interpolation": "bilinear",
        "resize_mode": "shortest",
    },
}


def parse(content: Any) -> Preprocessing:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_preprocessing(raw, where="x.json")


@pytest.mark.parametrize(
    "content",
    [
        preprocessor_config(384),
        preprocessor_config(384, size=384),
        preprocessor_config(384, resample=None),
        preprocessor_config(384, image_processor_type="SiglipImageProcessorFast"),
        preprocessor_config(384, do_center_crop=None),
        IMMICH,
        {**IMMICH, "size": 384},
        {"model_cfg": {"vision_cfg": {"image_size": [384, 384]}}, "preprocess_cfg": IMMICH},
    ],
)
def test_the_three_kinds_say_the_same_thing_of_siglip(content: Any) -> None:
    assert parse(content) == SIGLIP


def test_siglip_2_says_bilinear() -> None:
    assert parse(preprocessor_config(384, resample=2)).resample == "bilinear"


def test_mobileclip_takes_the_middle_of_the_shortest_side() -> None:
    expected = Preprocessing((256, 256), "shortest-side-crop", "bilinear", OPENAI_MEAN, OPENAI_STD)
    assert parse(MOBILECLIP) == expected


def test_open_clip_leaves_out_what_is_its_default() -> None:
    said = parse({"model_cfg": {"vision_cfg": {"image_size": 224}}, "preprocess_cfg": {}})
    expected = Preprocessing((224, 224), "shortest-side-crop", "bicubic", OPENAI_MEAN, OPENAI_STD)
    assert said == expected


@pytest.mark.parametrize("size", [224, {"shortest_edge": 224}])
def test_clip_of_transformers_is_a_crop(size: Any) -> None:
    content = preprocessor_config(
        224,
        do_center_crop=True,
        crop_size={"height": 224, "width": 224},
        size=size,
        image_processor_type="CLIPImageProcessor",
    )
    assert parse(content).resize == "shortest-side-crop"


def test_pictures_need_not_be_square() -> None:
    content = preprocessor_config(384, size={"height": 256, "width": 512})
    assert parse(content).image_size == (256, 512)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!doctype html>", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        ([], "is not a JSON object"),
        ({"architectures": ["SiglipModel"]}, "says nothing about mean"),
        (preprocessor_config(384, do_normalize=False), "do_normalize is false"),
        (preprocessor_config(384, rescale_factor=1.0), "rescale_factor is 1.0"),
        (preprocessor_config(384, resample=1), "resample is the filter 1"),
        (preprocessor_config(384, resample="bicubic"), "resample is 'bicubic'"),
        (preprocessor_config(384, image_mean=None), "image_mean is None"),
        (preprocessor_config(384, image_std=[0.5, 0.5, 0]), "image_std is [0.5, 0.5, 0.0]"),
        (preprocessor_config(384, size={"longest_edge": 384}), "size.height is missing"),
        (preprocessor_config(384, size="big"), "size is 'big'"),
        (preprocessor_config(0), "size.height is 0"),
        (
            preprocessor_config(384, resample=None, image_processor_type="ViTImageProcessor"),
            "resample is missing",
        ),
        (
            preprocessor_config(384, do_center_crop=True, crop_size=336, size=384),
            "size is not the crop's, 336 pixels",
        ),
        ({**IMMICH, "resize_mode": "longest"}, "resize_mode is 'longest'"),
        ({**IMMICH, "interpolation": "nearest"}, "interpolation is 'nearest'"),
        ({**IMMICH, "resize_mode": "shortest", "size": [384, 512]}, "a crop must be square"),
        ({"preprocess_cfg": {}}, "model_cfg is missing"),
        ({"preprocess_cfg": 1, "model_cfg": {}}, "preprocess_cfg is 1; it must be a table"),
    ],
)
def test_what_the_towers_do_not_do_is_refused_in_one_line(content: Any, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(content)
    assert words in str(caught.value)
    assert str(caught.value).startswith("x.json")
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(preprocessor_config(384))
    assert read_preprocessing(path) == SIGLIP
    with pytest.raises(ModelError, match=r"absent\.json cannot be read"):
        read_preprocessing(tmp_path / "absent.json")
