"""Measure what decoding JPEGs at a half, a quarter or an eighth does to their embeddings.

    python scripts/measure_draft_path.py FOLDER                      the bundled model
    python scripts/measure_draft_path.py FOLDER --model base-384     random weights, the real shape

Each photograph is decoded as `index` does it and whole, and both go through the same preprocessing
and tower. Where the file is too small to be reduced the two are the same by construction: such
photographs are counted, not measured. Because few collections hold files large enough for a model
of 384 pixels, `--mosaics N` adds pictures of 12 megapixels, each made of the photographs side by
side in their own size, which leaves more fine detail to lose than a camera does.

The centred cosine is taken after the mean embedding of the measured pictures is subtracted. With
random weights all pictures point nearly the same way, and the plain cosine would forgive anything.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from siglip_search import demo
from siglip_search.errors import UnreadablePictureError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_COSINE = 0.999
MOSAIC_SIZE = (4000, 3000)


def main() -> None:
    """Print one table; the exit status is 1 if a cosine is below the least that is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs, at any depth")
    parser.add_argument("--model", default="demo", help='"demo", "base-384" or a model folder')
    parser.add_argument("--mosaics", type=int, default=0, help="pictures of 12 megapixels to add")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tower = open_tower(options.model, Path(folder))
    photographs = [path.read_bytes() for path in jpegs(options.folder)]
    groups = {"photographs": photographs}
    if options.mosaics:
        groups["mosaics"] = mosaics(photographs, options.mosaics)
    print(f"{options.model}, {tower.preprocessor.image_size[0]} px")
    print("| pictures | all | reduced | cosine, mean | worst | centred, mean | worst |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = min(measure(name, files, tower) for name, files in groups.items())
    if worst < LEAST_COSINE:
        raise SystemExit(f"FAILED: the worst cosine, {worst:.5f}, is below {LEAST_COSINE}")


def open_tower(model: str, folder: Path) -> VisionTower:
    """Open a picture tower; `folder` is for one that has to be written first."""
    if model == "demo":
        return VisionTower(load_model_folder(demo.model_directory()))
    if model == "base-384":
        from random_tower import write_random_model  # beside this script

        return VisionTower(load_model_folder(write_random_model(folder, shape=model)))
    return VisionTower(load_model_folder(Path(model)))


def jpegs(folder: Path) -> list[Path]:
    """Return the JPEGs below `folder` that can be read, each content once."""
    found: dict[bytes, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg"):
            content = path.read_bytes()
            try:
                decode(io.BytesIO(content), limits=DecodeLimits())
            except UnreadablePictureError as error:
                print(f"left out: {path.name}: {error}")
                continue
            found.setdefault(content, path)
    return list(found.values())


def mosaics(photographs: Sequence[bytes], count: int) -> list[bytes]:
    """Return JPEGs that are filled with photographs in their own size, in random order."""
    chance = np.random.default_rng(0)
    images = [decode(io.BytesIO(one), limits=DecodeLimits()).image for one in photographs]
    made = []
    for _ in range(count):
        canvas = Image.new("RGB", MOSAIC_SIZE)
        order = iter(np.resize(chance.permutation(len(images)), 10_000))
        left, column = 0, 0
        while left < MOSAIC_SIZE[0]:
            top, column = 0, 0
            while top < MOSAIC_SIZE[1]:
                image = images[next(order)]
                canvas.paste(image, (left, top))
                top, column = top + image.height, max(column, image.width)
            left += column
        encoded = io.BytesIO()
        canvas.save(encoded, "JPEG", quality=92)
        made.append(encoded.getvalue())
    return made


def measure(name: str, files: Sequence[bytes], tower: VisionTower) -> float:
    """Print one row; return the worst cosine."""
    min_side = tower.preprocessor.min_side_px
    reduced, whole = [], []
    for content in files:
        draft = decode(io.BytesIO(content), limits=DecodeLimits(), min_side=min_side).image
        image = decode(io.BytesIO(content), limits=DecodeLimits()).image
        if draft.size != image.size:
            reduced.append(tower.preprocessor(draft))
            whole.append(tower.preprocessor(image))
    if not reduced:
        print(f"| {name} | {len(files)} | 0 | | | | |")
        return 1.0
    drafted, full = tower.embed(np.stack(reduced)), tower.embed(np.stack(whole))
    cosines = (drafted * full).sum(axis=1)
    mean = full.mean(axis=0)
    centred = (unit(drafted - mean) * unit(full - mean)).sum(axis=1)
    figures = (cosines.mean(), cosines.min(), centred.mean(), centred.min())
    cells = " | ".join(f"{figure:.6f}" for figure in figures)
    print(f"| {name} | {len(files)} | {len(reduced)} | {cells} |")
    return float(cosines.min())


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row, shape (n, d), at length 1."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


if __name__ == "__main__":
    main()
