"""Run towers of true shape on the NPU's emulator, and compare them with fp32 on the processor.

    python scripts/npu_true_shape.py [--models NAME,NAME] [--towers text,vision]

Every model is exported from a checkpoint with random weights as `model export NAME --batch 1`
does it, and its towers are opened as `--device npu-emulator` does: fp16 is the exported file
itself, w8a16 what `model quantize` makes of it. Each line is a process of its own. Random weights
show whether every operator runs on HTP and what its arithmetic costs; what a search would lose,
they do not show. Seconds are the emulator's, and say nothing about an NPU's.

Needs the extras `reference` and `npu`, x86-64, 12 GB of memory, and some minutes for the
picture tower of SigLIP base. What it printed last is docs/measurements/npu_true_shape.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import random_checkpoint
from make_tokenizer_goldens import define_missing_operators
from random_tower import train_tokenizer

from siglip_search.export.model_export import ExportOptions, export_model
from siglip_search.export.quantization_data import Samples
from siglip_search.export.quantize_w8a16 import quantize_w8a16, write_w8a16
from siglip_search.export.static_shapes import static_picture_tower, static_text_tower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import find_row
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.process_memory import peak_memory_bytes
from siglip_search.towers.qnn_runtime import runtime_versions
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.session_qnn import QnnSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.models.registry_row import RegistryRow
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Session

SEED = 20261121
PRECISIONS = {"siglip-base-patch16-384": ("fp16", "w8a16"), "mobileclip2-s3": ("fp16",)}
"""What is run of each model: MobileCLIP2-S3 is there in half precision only."""

INPUTS = {"text": 3, "vision": 2}
SAMPLES = {"text": 24, "vision": 8}
"""Inputs that are run, and those that w8a16's ranges are measured on."""

COLUMNS = ("model", "tower", "precision", "MB", "nodes on HTP", "least cosine", "two inputs (fp32)")
COLUMNS += ("preparing, s", "one run, s", "peak memory, GB")


def export(name: str, folder: Path) -> None:
    """Write a checkpoint with random weights, and the model that is exported from it."""
    define_missing_operators()
    row = own_row(name)
    checkpoint = folder / "checkpoint"
    if row.hub.architecture.library == "open_clip":
        random_checkpoint.write_open_clip(row, checkpoint, seed=SEED)
    else:
        random_checkpoint.write_siglip(
            row,
            checkpoint,
            seed=SEED,
            tokenizer=train_tokenizer(SEED),
            **random_checkpoint.SIGLIP_SHAPES[name],
        )
    export_model(row, folder / "model", weights=checkpoint, options=ExportOptions(batch=1))


def own_row(name: str) -> RegistryRow:
    """Return a row without the hash of its published vocabulary, which is not at hand."""
    row = find_row(name)
    return dataclasses.replace(row, hub=dataclasses.replace(row.hub, tokenizer_sha256=None))


def measure(spec: ModelSpec, tower: str, precision: str, folder: Path) -> dict[str, str]:
    """Return the columns of one line."""
    source = spec.vision_path if tower == "vision" else spec.text_path
    path = source
    if precision == "w8a16":
        path = folder / f"{tower}-w8a16.onnx"
        quantize(spec, tower, source, path)
    values = inputs(spec, tower, INPUTS[tower], seed=SEED)
    expected = embed(CpuSession(source), source, spec, values)
    begun = time.perf_counter()
    session = QnnSession(path, target=DEFAULT_TARGET, emulator=True, model=spec.name)
    prepared = time.perf_counter()
    # One picture of SigLIP base takes the emulator a minute to seven.
    count = 1 if tower == "vision" and spec.vision.image_size[0] > 256 else INPUTS[tower]
    found = embed(session, path, spec, values[:count])
    ended = time.perf_counter()
    nodes = session.assignment
    return {
        "tower": tower,
        "precision": precision,
        "MB": f"{path.stat().st_size / 1e6:.0f}",
        "nodes on HTP": f"{nodes.npu} of {nodes.npu + nodes.cpu}",
        "least cosine": f"{np.einsum('nd,nd->n', found, expected[:count]).min():.6f}",
        "two inputs (fp32)": f"{expected[0] @ expected[1]:.3f}",
        "preparing, s": f"{prepared - begun:.0f}",
        "one run, s": f"{(ended - prepared) / count:.0f}",
        "peak memory, GB": peak_memory(),
    }


def quantize(spec: ModelSpec, tower: str, source: Path, path: Path) -> None:
    """Write the tower with 8-bit weights and 16-bit activations."""
    static = static_picture_tower(spec) if tower == "vision" else static_text_tower(spec)
    rows = inputs(spec, tower, SAMPLES[tower], seed=SEED + 1)
    samples = Samples(static.graph.input[0].name, rows)
    write_w8a16(quantize_w8a16(static, samples, source=source), path)


def inputs(spec: ModelSpec, tower: str, count: int, *, seed: int) -> NDArray[Any]:
    """Return ids of the whole vocabulary, or pixel values of blocks of many sizes."""
    hub = own_row(spec.name).hub
    if tower == "text":
        table = random_checkpoint.SIGLIP_SHAPES.get(spec.name, {"vocabulary": hub.end_id + 1})
        return random_checkpoint.random_ids(count, hub, table["vocabulary"], seed=seed)
    pictures = random_checkpoint.random_pictures(count, spec.vision.image_size, seed=seed)
    return normalise(pictures, mean=spec.vision.mean, std=spec.vision.std)


def embed(
    session: Session, path: Path, spec: ModelSpec, values: NDArray[Any]
) -> NDArray[np.float32]:
    """Return unit vectors, shape (n, dimension)."""
    (fed,) = session.inputs
    graph = embedding_graph(
        session,
        path=path,
        dimension=spec.dimension,
        input_names=(fed.name,),
        input_shape=values.shape[1:],
    )
    return graph.run(values, rows_per_run=1)


def peak_memory() -> str:
    """Return the most memory that this process held, in GB; "" where the system does not say."""
    peak = peak_memory_bytes()
    return "" if peak is None else f"{peak / 1e9:.1f}"


def in_own_process(*arguments: str) -> dict[str, str] | None:
    """Run this script for one step; None if that ended with an error, which it has printed."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    last: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return last


def step(name: str, folder: Path, tower: str | None, precision: str | None) -> dict[str, str]:
    """Export a model, or measure one of its towers."""
    if tower is None or precision is None:
        export(name, folder)
        return {}
    return measure(load_model_folder(folder / "model"), tower, precision, folder)


def heading() -> str:
    """Return when, with what and on what this is measured."""
    libraries = ", ".join(f"{name} {found}" for name, found in runtime_versions().items())
    return (
        f"{dt.date.today().isoformat()}, python scripts/npu_true_shape.py\n"
        f"RANDOM WEIGHTS in true shapes, exported with --batch 1; emulator, target "
        f"{DEFAULT_TARGET}; {libraries}, torch {version('torch')}\n"
        "Cosines are to the exported tower in fp32 on the processor. Seconds are the emulator's "
        "and say nothing about an NPU's.\n"
    )


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(PRECISIONS), help="names, with commas between")
    parser.add_argument("--towers", default="text,vision", help="text, vision, or both")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        name, folder, tower, precision = (*asked.step, None, None)[:4]
        print(json.dumps(step(name, Path(folder), tower, precision)))
        return
    print(heading())
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    failed = False
    for name in asked.models.split(","):
        with tempfile.TemporaryDirectory(prefix="npu-true-shape-") as folder:
            if in_own_process(name, folder) is None:
                raise SystemExit(f"{name} could not be exported")
            for tower in asked.towers.split(","):
                for precision in PRECISIONS[name]:
                    line = in_own_process(name, folder, tower, precision)
                    failed = failed or line is None
                    line = {"model": name, **(line or {"tower": tower, "precision": precision})}
                    cells = [line.get(column, "failed") for column in COLUMNS]
                    print(f"| {' | '.join(cells)} |", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
