"""What the ecosystem's JSON files say about preparing a picture.

Three kinds are read: `preprocessor_config.json` of Transformers, `preprocess_cfg.json` of immich's
exports (open_clip's `PreprocessCfg` as it stands) and `open_clip_config.json`, which holds that
one inside. What a file leaves out is the default of the library that wrote it, where that is one
fact and not a guess.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from siglip_search.errors import ModelError
from siglip_search.models.fact_table import FactTable

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import Resample, Resize

_MAX_IMAGE_SIDE_PX: Final = 4096
_PIL_FILTERS: Final[dict[int, Resample]] = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling

# open_clip/constants.py and PreprocessCfg in open_clip/transform.py, 3.3.0.
_OPENAI_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_OPEN_CLIP_RESIZE: Final[dict[str, Resize]] = {"squash": "squash", "shortest": "shortest-side-crop"}

_REMEDY: Final = "The file is another model's, or its repository has changed."


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a checkpoint wants its pictures.

    Attributes:
        image_size: Height and width in pixels.
        resize: How a picture is brought to that size.
        resample: Filter of the resize.
        mean: Per channel (red, green, blue), of values in [0, 1].
        std: As `mean`; each > 0.
    """

    image_size: tuple[int, int]
    resize: Resize
    resample: Resample
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def read_preprocessing(path: Path) -> Preprocessing:
    """Read one of the three kinds of JSON file.

    Raises:
        ModelError: If it cannot be read, is none of them, or asks for what the towers' own
            preprocessing does not do; the message names the file and the key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    return parse_preprocessing(content, where=str(path))


def parse_preprocessing(content: bytes, *, where: str) -> Preprocessing:
    """Read the content of one of the three kinds of JSON file.

    Args:
        content: The file's.
        where: What to call the file in messages.

    Raises:
        ModelError: As `read_preprocessing`.
    """
    try:
        values = json.loads(content)
    except ValueError as error:
        raise ModelError(f"{where} is not valid JSON: {error}", hint=_REMEDY) from error
    if not isinstance(values, dict):
        raise ModelError(f"{where} is not a JSON object", hint=_REMEDY)
    table = FactTable(values, where=where, remedy=_REMEDY)
    if "model_cfg" in table or "preprocess_cfg" in table:
        return _open_clip_config(table)
    if "interpolation" in table or "resize_mode" in table:
        return _open_clip(table, _size(table, "size"))
    if "image_mean" in table or "image_processor_type" in table:
        return _transformers(table)
    raise ModelError(
        f"{where} says nothing about mean, deviation and resampling of pictures", hint=_REMEDY
    )


def _transformers(table: FactTable) -> Preprocessing:
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if not table.truth(key, default=True):
            raise table.complain(key, "is false; the towers need it done")
    factor = table.optional_number("rescale_factor")
    if factor is not None and abs(factor * 255 - 1) > 1e-6:
        raise table.complain("rescale_factor", f"is {factor}; it must be 1/255")
    cropped = table.truth("do_center_crop", default=False)
    size = _size(table, "crop_size" if cropped else "size")
    if cropped and _shortest_edge(table) not in (size[0], None):
        raise table.complain("size", f"is not the crop's, {size[0]} pixels")
    return _checked(
        table,
        size,
        "shortest-side-crop" if cropped else "squash",
        _pil_filter(table),
        "image_mean",
        "image_std",
    )


def _shortest_edge(table: FactTable) -> int | None:
    # Older files have a plain number there.
    if table.kind("size") is not dict:
        return table.optional_integer("size", least=1, most=_MAX_IMAGE_SIDE_PX)
    edge = table.table("size")
    return edge.optional_integer("shortest_edge", least=1, most=_MAX_IMAGE_SIDE_PX)


def _pil_filter(table: FactTable) -> Resample:
    if "resample" not in table:
        # The class's own default then: bicubic in SiglipImageProcessor and CLIPImageProcessor.
        processor = table.optional_text("image_processor_type") or ""
        if processor.startswith(("SiglipImageProcessor", "CLIPImageProcessor")):
            return "bicubic"
        raise table.complain("resample", "is missing; it must be a whole number")
    number = table.integer("resample", least=0, most=5)
    if number not in _PIL_FILTERS:
        raise table.complain("resample", f"is the filter {number}, which the towers do not use")
    return _PIL_FILTERS[number]


def _open_clip_config(table: FactTable) -> Preprocessing:
    preprocess = table.table("preprocess_cfg")
    if "size" in preprocess:
        return _open_clip(preprocess, _size(preprocess, "size"))
    vision = table.table("model_cfg").table("vision_cfg")
    return _open_clip(preprocess, _size(vision, "image_size"))


def _open_clip(table: FactTable, size: tuple[int, int]) -> Preprocessing:
    mode = table.choice("resize_mode", (*_OPEN_CLIP_RESIZE, "longest"), "shortest")
    if mode not in _OPEN_CLIP_RESIZE:
        raise table.complain("resize_mode", f"is {mode!r}, which the towers do not use")
    resample = table.choice("interpolation", tuple(_PIL_FILTERS.values()), "bicubic")
    return _checked(table, size, _OPEN_CLIP_RESIZE[mode], cast("Resample", resample), "mean", "std")


def _checked(
    table: FactTable,
    size: tuple[int, int],
    resize: Resize,
    resample: Resample,
    mean_key: str,
    std_key: str,
) -> Preprocessing:
    # Only open_clip has published defaults that are the same for every model.
    said = {
        key: table.numbers(key, 3)
        if key in table or mean_key == "image_mean"
        else (_OPENAI_MEAN if key == mean_key else _OPENAI_STD)
        for key in (mean_key, std_key)
    }
    if min(said[std_key]) <= 0:
        raise table.complain(std_key, f"is {list(said[std_key])}; every value must be above 0")
    if resize == "shortest-side-crop" and size[0] != size[1]:
        raise table.complain("size", f"is {size[0]} x {size[1]}; a crop must be square")
    return Preprocessing(
        image_size=size,
        resize=resize,
        resample=resample,
        mean=cast("tuple[float, float, float]", said[mean_key]),
        std=cast("tuple[float, float, float]", said[std_key]),
    )


def _size(table: FactTable, key: str) -> tuple[int, int]:
    """Read a size that is one number, a pair of height and width, or a table of both."""
    kind = table.kind(key)
    if kind is list:
        height, width = table.integers(key, 2, least=1, most=_MAX_IMAGE_SIDE_PX)
        return height, width
    if kind is dict:
        sides = table.table(key)
        return (
            sides.integer("height", least=1, most=_MAX_IMAGE_SIDE_PX),
            sides.integer("width", least=1, most=_MAX_IMAGE_SIDE_PX),
        )
    side = table.integer(key, least=1, most=_MAX_IMAGE_SIDE_PX)
    return side, side
