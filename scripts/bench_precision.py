"""Measure what the precisions of a model cost: making, size, opening, running, agreement.

    python scripts/bench_precision.py                  SigLIP base at 384 px, random weights
    python scripts/bench_precision.py --onnxruntime    and what ONNX Runtime's own quantiser makes

Running times are processor time on one thread, and the variants take turns, so that what else the
machine does falls on all of them alike. Making and opening are measured in processes of their own.
Cosines with random weights say how far the arithmetic is off, nothing about what is found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from random_tower import SHAPES, write_random_model

from siglip_search.export.fp16_storage import store_fp16
from siglip_search.export.quantize_int8 import FULL_LEVELS, SAFE_LEVELS, quantize_int8
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TOWERS = ("vision.onnx", "text.onnx")
QUERIES = (
    "red bicycle",
    "a cat on the table",
    "white house in the snow",
    "sea",
    "a photo of a boat",
)


def ours(levels: int) -> Callable[[Path, Path], object]:
    """Return a maker of 8-bit towers with weights up to `levels`."""
    return lambda source, target: quantize_int8(source, target, levels=levels)


def theirs(weights: str) -> Callable[[Path, Path], object]:
    """Return ONNX Runtime's quantiser with the same settings; it writes beside the source."""

    def make(source: Path, target: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=getattr(QuantType, weights),
        )

    return make


MAKERS: dict[str, Callable[[Path, Path], object]] = {
    "fp32": shutil.copyfile,
    "fp16": store_fp16,
    "int8": ours(FULL_LEVELS),
    f"int8, weights up to {SAFE_LEVELS}": ours(SAFE_LEVELS),
    "onnxruntime, signed": theirs("QInt8"),
    "onnxruntime, unsigned": theirs("QUInt8"),
}


def main() -> None:
    """Print the tables, or do one measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base-384")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--onnxruntime", action="store_true", help="its own quantiser as well")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        name, source, target = options.make
        print(json.dumps(make_towers(MAKERS[name], Path(source), Path(target))))
    elif options.open:
        print(json.dumps(open_text_tower(options.open)))
    else:
        names = [name for name in MAKERS if options.onnxruntime or "onnxruntime" not in name]
        with tempfile.TemporaryDirectory() as folder:
            compare(names, Path(folder), options.shape, options.runs)


def compare(names: list[str], folder: Path, shape: str, runs: int) -> None:
    """Make every variant, then print what each costs."""
    reference = write_random_model(folder / "reference", shape=shape)
    made, opened = {}, {}
    for name in names:
        target = folder / name.replace(" ", "-")
        shutil.copytree(reference, target, ignore=shutil.ignore_patterns(*TOWERS))
        made[name] = alone("--make", name, reference, target)
        opened[name] = [alone("--open", target) for _ in range(3)]
    folders = {name: folder / name.replace(" ", "-") for name in names}
    pictures, texts = run_in_turns(folders, runs)
    print(f"{shape}, random weights: decides nothing about what is found\n")
    print("| weights | MB | made in s | peak MB | picture s | times | query ms | times |", end="")
    print(" cosine pictures, queries | open + first query ms | peak MB |")
    print("| --- |" + " --- |" * 10)
    for name in names:
        size = sum((folders[name] / tower).stat().st_size for tower in TOWERS)
        seconds, query = statistics.median(pictures[name][0]), statistics.median(texts[name][0])
        cosines = [cosine(both[name][1], both["fp32"][1]).min() for both in (pictures, texts)]
        load = min(each["ms"] for each in opened[name])
        print(
            f"| {name} | {size / 1e6:.0f} | {made[name]['seconds']:.1f} | {made[name]['peak']} | "
            f"{seconds:.2f} | {statistics.median(pictures['fp32'][0]) / seconds:.2f} | "
            f"{1e3 * query:.0f} | {statistics.median(texts['fp32'][0]) / query:.2f} | "
            f"{cosines[0]:.4f}, {cosines[1]:.4f} | {load:.0f} | {opened[name][0]['peak']} |"
        )
    spread = [cosine(both["fp32"][1][:1], both["fp32"][1][1:]).max() for both in (pictures, texts)]
    print(f"\nNearest two different pictures {spread[0]:.2f}, queries {spread[1]:.2f} (cosine)")


def run_in_turns(folders: dict[str, Path], runs: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return seconds and embeddings of each variant, for pictures and for queries."""
    specs = {name: load_model_folder(folder) for name, folder in folders.items()}
    side = next(iter(specs.values())).vision.image_size[0]
    inputs = (drawn(side, 5), list(QUERIES))
    tables = []
    for kind, values, number in ((VisionTower, inputs[0], runs), (TextTower, inputs[1], 3 * runs)):
        towers = {name: kind(spec, threads=1) for name, spec in specs.items()}
        # One input a call, as indexing and asking do it.
        vectors = {
            name: np.concatenate([tower.embed(values[i : i + 1]) for i in range(len(values))])
            for name, tower in towers.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in towers}
        for run in range(number):
            for name, tower in towers.items():
                started = time.process_time()
                tower.embed(values[run % len(values) :][:1])
                seconds[name].append(time.process_time() - started)
        tables.append({name: (seconds[name], vectors[name]) for name in towers})
    return tables[0], tables[1]


def drawn(side: int, number: int) -> NDArray[np.uint8]:
    """Return pictures of soft colours, shape (number, side, side, 3)."""
    chance = np.random.default_rng(0)
    pictures = [
        Image.fromarray(chance.integers(0, 256, (9, 12, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        for _ in range(number)
    ]
    return np.stack([np.asarray(picture) for picture in pictures])


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return inner products of unit vectors, row by row."""
    return np.asarray((first * second).sum(axis=1))


def alone(*arguments: object) -> Any:
    """Return what this script measures in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def make_towers(make: Callable[[Path, Path], object], source: Path, target: Path) -> object:
    """Make both towers; return the seconds, and the process's peak memory in MB."""
    started = time.perf_counter()
    for tower in TOWERS:
        make(source / tower, target / tower)
    return {"seconds": time.perf_counter() - started, "peak": peak_megabytes()}


def open_text_tower(folder: Path) -> object:
    """Open the text tower for one query; return the milliseconds and the peak memory in MB."""
    spec = load_model_folder(folder)
    import onnxruntime  # noqa: F401  the import is no part of opening
    import sentencepiece  # noqa: F401

    started = time.perf_counter()
    TextTower(spec, one_shot=True).embed(QUERIES[:1])
    return {"ms": 1e3 * (time.perf_counter() - started), "peak": peak_megabytes()}


def peak_megabytes() -> int | None:
    """Return the most memory that this process had; None where the system does not tell."""
    # Not getrusage: that begins with the memory of the process which started this one.
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return round(int(kilobytes) / 1e3)


if __name__ == "__main__":
    main()
