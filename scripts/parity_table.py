"""Compare what `model export` makes with the library that defined each model, in true shapes.

    python scripts/parity_table.py [--rows NAME,NAME] [--small] [--write]

For every row of the registry: a checkpoint with random weights is written as its library writes
it, exported into a model folder, and both are run on the same pictures and ids, ours through the
sessions that a search uses. One table comes out; `--write` puts it into docs/parity.md. Each row
runs in a process of its own. Needs the extra `reference`, 12 GB of memory and 15 GB of disk for the
largest row.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_tokenizer_goldens as tokenizer_references
import numpy as np
import random_checkpoint
from PIL import Image

from siglip_search.export.model_export import export_model
from siglip_search.export.reference_libraries import quiet
from siglip_search.export.tower_check import MAX_DIFFERENCE
from siglip_search.models.registry import find_row, registry_rows
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.process_memory import peak_memory_bytes
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from random_checkpoint import Reference

    from siglip_search.models.registry_row import RegistryRow
    from siglip_search.models.spec import ModelSpec

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "parity.md"
BEGIN, END = "<!-- parity-table -->", "<!-- /parity-table -->"
SEED = 20261121
PICTURES, TEXTS = 4, 24
STRINGS = 500
PHOTO_SIZES = ((640, 427), (427, 640), (300, 300), (1200, 801), (97, 260))
LARGEST_COSINE = 0.99
SMALL = ("siglip-base-patch16-224",)


def compare(row: RegistryRow, folder: Path) -> dict[str, Any]:
    """Return the figures of one row.

    Args:
        row: The model.
        folder: Empty, for checkpoint and model; what is in it can be deleted afterwards.
    """
    checkpoint = folder / "checkpoint"
    vocabulary = _write(row, checkpoint)
    weights = checkpoint / Path(row.hub.weights_file).name
    started = time.perf_counter()
    exported = export_model(row, folder / "model", weights=checkpoint)
    seconds = time.perf_counter() - started
    spec = exported.spec
    reference = random_checkpoint.open_reference(row, checkpoint)

    pictures = random_checkpoint.random_pictures(PICTURES, row.hub.image_size, seed=SEED)
    values = normalise(pictures, mean=spec.vision.mean, std=spec.vision.std)
    ids = random_checkpoint.random_ids(TEXTS, row.hub, vocabulary, seed=SEED)
    started = time.perf_counter()
    ours_vision = VisionTower(spec).embed(pictures)
    picture_seconds = (time.perf_counter() - started) / PICTURES
    ours_text = _text_embeddings(spec, ids)
    vision, text = reference.pictures(values), reference.texts(ids)
    logits = spec.score.logit_scale * ours_vision @ ours_text.T + (spec.score.logit_bias or 0.0)
    theirs = reference.logits(values, ids)
    figures = {
        "name": row.name,
        "library": row.hub.architecture.library,
        "made_with": exported.made_with,
        "parameters": sum(weight.numel() for weight in reference.model.parameters()),
        "checkpoint": spec.checkpoint.removeprefix("sha256:"),
        "checkpoint_bytes": weights.stat().st_size,
        "vision_bytes": _size(spec, spec.vision.file, spec.vision.data_files),
        "text_bytes": _size(spec, spec.text.file, spec.text.data_files),
        "seconds": seconds,
        "picture_seconds": picture_seconds,
        "vision": _difference(ours_vision, vision),
        "text": _difference(ours_text, text),
        "closest_pictures": _closest(vision),
        "closest_texts": _closest(text),
        "logits": float(np.abs(logits - theirs).max()),
        "logit_range": [float(theirs.min()), float(theirs.max())],
        "preprocessing": _preprocessing_difference(row, spec, checkpoint, reference),
        "tokenizer": _tokenizer_mismatches(row, spec),
    }
    for mutant in (random_checkpoint.other_gelu, random_checkpoint.other_epsilon):
        figures[mutant.__name__] = {
            "vision": _mutated(mutant, reference.model, ours_vision, reference.pictures, values),
            "text": _mutated(mutant, reference.model, ours_text, reference.texts, ids),
        }
    return {**figures, "peak_bytes": peak_memory_bytes()}


def _write(row: RegistryRow, folder: Path) -> int:
    """Write a checkpoint; return the rows of its token table."""
    source = row.hub
    tokenizer = None
    if source.tokenizer == "sentencepiece":
        train = (
            tokenizer_references.train_siglip2
            if source.canonicalize == "lowercase"
            else tokenizer_references.train_siglip
        )
        tokenizer = train(SEED)
    if source.architecture.library == "open_clip":
        import open_clip

        random_checkpoint.write_open_clip(row, folder, seed=SEED, tokenizer=tokenizer)
        return int(open_clip.get_model_config(source.architecture.name)["text_cfg"]["vocab_size"])
    shape = random_checkpoint.SIGLIP_SHAPES[row.name]
    random_checkpoint.write_siglip(row, folder, seed=SEED, tokenizer=tokenizer, **shape)
    return int(shape["vocabulary"])


def _text_embeddings(spec: ModelSpec, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    # Past the tokenizer: ids of the whole vocabulary, which a small one never gives.
    graph = embedding_graph(
        CpuSession(spec.text_path),
        path=spec.text_path,
        dimension=spec.dimension,
        input_names=("input_ids",),
        input_shape=ids.shape[1:],
    )
    return graph.run(ids, rows_per_run=8)


def _preprocessing_difference(
    row: RegistryRow, spec: ModelSpec, checkpoint: Path, reference: Reference
) -> float:
    """Return the largest difference between pixel values, over photos of several shapes."""
    process = _library_processor(row, checkpoint, reference)
    preprocessor = VisionTower(spec).preprocessor
    generator = np.random.default_rng(SEED)
    largest = 0.0
    for width, height in PHOTO_SIZES:
        coarse = generator.integers(0, 256, (height // 9, width // 9, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((width, height), Image.Resampling.LANCZOS)
        pixels = preprocessor(photo)[None]
        ours = normalise(pixels, mean=spec.vision.mean, std=spec.vision.std)[0]
        largest = max(largest, float(np.abs(ours - process(photo)).max()))
    return largest


def _library_processor(
    row: RegistryRow, checkpoint: Path, reference: Reference
) -> Callable[[Image.Image], NDArray[np.float32]]:
    if row.hub.architecture.library == "open_clip":
        from open_clip.transform import PreprocessCfg, image_transform_v2

        transform = image_transform_v2(
            PreprocessCfg(**reference.model.visual.preprocess_cfg), is_train=False
        )
        return lambda photo: transform(photo).numpy()
    from transformers import AutoImageProcessor

    with quiet():
        # The one that computes with Pillow, as the models were trained and as we do.
        processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
    return lambda photo: np.asarray(processor(photo, return_tensors="np")["pixel_values"][0])


def _tokenizer_mismatches(row: RegistryRow, spec: ModelSpec) -> list[int]:
    """Return for how many strings the ids differ, and the number of strings."""
    strings = tokenizer_references.texts(STRINGS, seed=SEED)
    ours = open_tokenizer(spec).encode(strings).tolist()
    with quiet():
        if row.hub.tokenizer == "clip-bpe":
            theirs = tokenizer_references.clip_reference(
                spec.tokenizer_path, strings, row.hub.length
            )
        else:
            reference = (
                tokenizer_references.siglip2_reference
                if row.hub.canonicalize == "lowercase"
                else tokenizer_references.siglip_reference
            )
            theirs = reference(spec.tokenizer_path.read_bytes(), strings, row.hub.length)
    different = sum(list(a) != list(b) for a, b in zip(ours, theirs, strict=True))
    return [different, len(strings)]


def _mutated(
    mutant: Callable[[Any], Any],
    model: Any,
    ours: NDArray[np.float32],
    embed: Callable[[Any], NDArray[np.float32]],
    values: Any,
) -> float:
    with mutant(model):
        return float(np.abs(ours - embed(values)).max())


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> list[float]:
    difference = np.abs(ours - theirs)
    return [float(difference.max()), float(difference.mean())]


def _closest(embeddings: NDArray[np.float32]) -> float:
    cosines = embeddings @ embeddings.T
    return float(cosines[np.triu_indices(len(cosines), 1)].max())


def _size(spec: ModelSpec, file: str, data_files: tuple[str, ...]) -> int:
    return sum((spec.directory / name).stat().st_size for name in (file, *data_files))


def verdict(figures: dict[str, Any]) -> list[str]:
    """Return what is wrong with a row; empty if its towers are those of its library."""
    wrong = [
        f"the {tower} tower differs"
        for tower in ("vision", "text")
        if not figures[tower][0] <= MAX_DIFFERENCE
    ]
    if max(figures["closest_pictures"], figures["closest_texts"]) >= LARGEST_COSINE:
        wrong.append("different inputs have the same embedding: the comparison says nothing")
    wrong += [
        f"{mutant} was not seen"
        for mutant in ("other_gelu", "other_epsilon")
        if max(figures[mutant].values()) <= MAX_DIFFERENCE
    ]
    return wrong


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown, one column a model."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("compared with", lambda f: f["made_with"].split(", ", 1)[1]),
        ("parameters, millions", lambda f: f"{f['parameters'] / 1e6:.0f}"),
        ("checkpoint, MB", lambda f: f"{f['checkpoint_bytes'] / 1e6:,.0f}"),
        ("its SHA-256 begins", lambda f: f"`{f['checkpoint'][:12]}`"),
        ("picture tower, text tower, MB", _megabytes),
        ("pictures: largest, mean difference", lambda f: _pair(f["vision"])),
        ("texts: largest, mean difference", lambda f: _pair(f["text"])),
        ("logits: largest difference", lambda f: f"{f['logits']:.1e}"),
        ("logits: from, to", lambda f: "{:.1f}, {:.1f}".format(*f["logit_range"])),
        ("nearest two pictures, texts (cosine)", _nearest),
        ("other GELU: pictures, texts", lambda f: _caught(f["other_gelu"])),
        ("other epsilon: pictures, texts", lambda f: _caught(f["other_epsilon"])),
        ("pixel values: largest difference", lambda f: f"{f['preprocessing']:.1e}"),
        ("strings with other ids", lambda f: "{} of {}".format(*f["tokenizer"])),
        ("export and check, s", lambda f: f"{f['seconds']:.0f}"),
        ("peak memory, GB", _peak),
    ]
    head = "| | " + " | ".join(f"`{figures['name']}`" for figures in rows) + " |"
    body = [f"| {what} | " + " | ".join(map(of, rows)) + " |" for what, of in lines]
    return "\n".join([head, "| --- |" + " --- |" * len(rows), *body])


def _megabytes(figures: dict[str, Any]) -> str:
    return f"{figures['vision_bytes'] / 1e6:,.0f}, {figures['text_bytes'] / 1e6:,.0f}"


def _peak(figures: dict[str, Any]) -> str:
    peak = figures["peak_bytes"]
    return "unknown" if peak is None else f"{peak / 1e9:.1f}"


def _nearest(figures: dict[str, Any]) -> str:
    return f"{figures['closest_pictures']:.2f}, {figures['closest_texts']:.2f}"


def _pair(values: list[float]) -> str:
    return f"{values[0]:.1e}, {values[1]:.1e}"


def _caught(differences: dict[str, float]) -> str:
    return ", ".join(
        f"{value:.0e}" if value > MAX_DIFFERENCE else "none" for value in differences.values()
    )


def heading() -> str:
    """Return when, with what and on what the table was made."""
    libraries = ("torch", "transformers", "timm", "open_clip_torch", "onnx", "onnxruntime")
    return (
        f"{dt.date.today().isoformat()}, `python scripts/parity_table.py --write`; "
        f"seed {SEED}, {PICTURES} pictures and {TEXTS} texts a model; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
        + f"; {platform.machine()}.\n"
    )


def _one(name: str) -> None:
    tokenizer_references.define_missing_operators()
    row = find_row(name)
    assert row.hub is not None
    # The published vocabularies are not at hand: small ones take their place.
    row = dataclasses.replace(row, hub=dataclasses.replace(row.hub, tokenizer_sha256=None))
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        print(json.dumps(compare(row, Path(folder))))


def _in_own_process(name: str) -> dict[str, Any] | None:
    print(f"{name} ...", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "--one", name], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: ended with {done.returncode}", file=sys.stderr)
        return None
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for complaint in verdict(figures):
        print(f"{name}: {complaint}", file=sys.stderr)
    return figures


def main() -> None:
    """Print the table; exit with 1 if a row could not be made or is not equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", help="names, separated by commas; by default all")
    parser.add_argument("--small", action="store_true", help=f"only {', '.join(SMALL)}")
    parser.add_argument("--write", action="store_true", help=f"put it into docs/{DOCUMENT.name}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        _one(arguments.one)
        return
    names = [row.name for row in registry_rows() if row.hub is not None]
    if arguments.small:
        names = list(SMALL)
    elif arguments.rows:
        names = arguments.rows.split(",")
    results = [_in_own_process(name) for name in names]
    rows = [figures for figures in results if figures is not None]
    text = f"{heading()}\n{table(rows)}\n"
    print(text)
    if arguments.write:
        document = DOCUMENT.read_text(encoding="utf-8")
        before, after = document.split(BEGIN)[0], document.split(END)[1]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    sys.exit(len(rows) < len(names) or any(verdict(figures) for figures in rows))


if __name__ == "__main__":
    main()
