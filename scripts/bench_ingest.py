"""Measure pictures per second, stage by stage, against what the stages could do alone.

    python scripts/bench_ingest.py                    both models
    python scripts/bench_ingest.py --model demo       the bundled one: decoding is the limit
    python scripts/bench_ingest.py --model base-384   random weights of the real shape: the tower is

The bare tower is its own threads embedding ready-made pixels, the bare decoder the worker processes
with nothing behind them. Both are timed in the same run as the whole, because machines drift.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from siglip_index import open_store
from siglip_search import demo
from siglip_search.engine.indexing import IndexListener, IndexOptions, available_cores, index_paths
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec


def main() -> None:
    """Print one table a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["demo", "base-384"], action="append")
    parser.add_argument("--pictures", type=int, help="JPEGs of 12 megapixels; default 300 or 48")
    parser.add_argument("--jobs", type=int, default=available_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.model or ["demo", "base-384"]:
            if name == "demo":
                spec, number = load_model_folder(demo.model_directory()), 300
            else:
                spec, number = random_model(Path(folder, "model")), 48
            pictures = Path(folder, f"pictures-{name}")
            pictures.mkdir()
            write_photographs(pictures, options.pictures or number)
            measure(name, spec, pictures, options.jobs)


def write_photographs(folder: Path, number: int, distinct: int = 12) -> None:
    """Write JPEGs of 4000 x 3000 with as much detail as a photograph has.

    Only the first few differ in what they show; a number after the end of the picture, which no
    decoder reads, makes each file a content of its own.
    """
    chance = np.random.default_rng(0)
    for index in range(min(distinct, number)):
        coarse = chance.integers(0, 256, (60, 80, 3), np.uint8)
        image = Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC)
        grain = chance.integers(-12, 13, (750, 1000, 1), np.int16).repeat(4, 0).repeat(4, 1)
        pixels = (np.asarray(image, np.int16) + grain).clip(0, 255).astype(np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=90)
        for copy in range(index, number, distinct):
            (folder / f"{copy:04}.jpg").write_bytes(encoded.getvalue() + copy.to_bytes(4))


def random_model(directory: Path) -> ModelSpec:
    """Write and load a model of random weights in the shape of SigLIP base, 384 pixels."""
    from random_tower import write_random_model  # beside this script

    write_random_model(directory, shape="base-384")
    return load_model_folder(directory)


def measure(name: str, spec: ModelSpec, pictures: Path, jobs: int) -> None:
    """Time the tower alone, the decoder alone, and the whole; print a table."""
    files = sorted(pictures.iterdir())
    tower = VisionTower(spec, threads=1)
    decode_rate = bare_decoder(tower, spec, files, jobs)
    tower_before = bare_tower(tower, spec, len(files), jobs)
    whole = whole_ingest(spec, pictures, jobs)
    tower_rate = (tower_before + bare_tower(tower, spec, len(files), jobs)) / 2
    limit = min(tower_rate, decode_rate)
    # Stages that share the same cores: their costs add up.
    shared = 1 / (1 / tower_rate + 1 / decode_rate)
    weights = "" if name == "demo" else " (random weights)"
    print(f"{name}{weights}: {len(files)} JPEGs of 12 MP, {jobs} at a time")
    print("| stage | pictures/s | whole / stage |")
    print("| --- | --- | --- |")
    for stage, rate in (
        ("decoder alone", decode_rate),
        ("tower alone", tower_rate),
        ("slower of the two", limit),
        ("both, sharing the cores", shared),
    ):
        print(f"| {stage} | {rate:.2f} | {whole / rate:.2f} |")
    print(f"| **whole ingest** | **{whole:.2f}** | |\n", flush=True)


def bare_tower(tower: VisionTower, spec: ModelSpec, number: int, jobs: int) -> float:
    """Return pictures per second of the tower, fed with ready-made pixels."""
    height, width = spec.vision.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    tower.embed(pixels)
    number = max(number, 4 * jobs)
    with ThreadPoolExecutor(jobs) as threads:
        started = time.perf_counter()
        list(threads.map(lambda _: tower.embed(pixels), range(number)))
        return number / (time.perf_counter() - started)


def bare_decoder(tower: VisionTower, spec: ModelSpec, files: list[Path], jobs: int) -> float:
    """Return pictures per second of the decoding processes, warm."""
    with DecodePool(
        tower.preprocessor,
        workers=jobs,
        limits=DecodeLimits(),
        min_side=tower.preprocessor.min_side_px,
    ) as pool:
        for future in [pool.decode(bytes(file)) for file in files[: 2 * jobs]]:
            future.result()
        started = time.perf_counter()
        for future in [pool.decode(bytes(file)) for file in files]:
            future.result()
        return len(files) / (time.perf_counter() - started)


def whole_ingest(spec: ModelSpec, pictures: Path, jobs: int) -> float:
    """Return pictures per second of `index`, from the first reading to the last commit."""
    begun = 0.0

    def note_start(_: object) -> None:
        # After scanning and loading the tower: those do not grow with the number of pictures.
        nonlocal begun
        begun = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), writable=True) as store:
        report = index_paths(
            store,
            spec,
            [pictures],
            IndexOptions(jobs=jobs),
            stop=threading.Event(),
            listener=IndexListener(on_estimate=note_start),
        )
        return report.embedded / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
