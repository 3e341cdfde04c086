"""Measure what a processor without VNNI makes of 8-bit weights, by emulating one.

    python scripts/eval_saturation.py exact.npz                                here: keeps them
    qemu-x86_64 -cpu Haswell-v4 python scripts/eval_saturation.py exact.npz    there: compares

The first line needs a processor with VNNI. Both quantise the towers of the bundled demonstration
model with the full range of weights and with the safe one, and embed the gallery and some queries.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from siglip_search import demo
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.export.quantize_int8 import (
    FULL_LEVELS,
    SAFE_LEVELS,
    quantize_int8,
    weight_levels,
)
from siglip_search.models.model_folder import load_model_folder
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.preprocess import Preprocessor, normalise
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBER = 40
"""Pictures and queries; the emulation takes its time."""


def main() -> None:
    """Keep the embeddings, or compare with those that were kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kept", type=Path, help="written if it is not there, else compared with")
    kept = parser.parse_args().kept
    print(f"weights go up to {weight_levels()} on this processor")
    embeddings = {
        f"{tower}, weights up to {levels}": embed(tower, levels)
        for levels in (FULL_LEVELS, SAFE_LEVELS)
        for tower in ("vision", "text")
    }
    if not kept.exists():
        np.savez(kept, **embeddings)
        return
    exact = np.load(kept)
    for name, values in embeddings.items():
        cosines = np.einsum("nd,nd->n", values, exact[name])
        print(f"{name}: cosine mean {cosines.mean():.4f}, least {cosines.min():.4f}")


def embed(tower: str, levels: int) -> NDArray[np.float32]:
    """Return unit embeddings of one tower of the demonstration model with 8-bit weights."""
    model = load_model_folder(demo.model_directory())
    if tower == "vision":
        source, values = model.vision_path, gallery()
    else:
        source, values = model.text_path, open_tokenizer(model).encode(PHRASES[:NUMBER])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "int8.onnx")
        quantize_int8(source, target, levels=levels)
        session = CpuSession(target, threads=1)
    rows = [
        session.run({session.inputs[0].name: values[i : i + 1]}, [session.outputs[0].name])[0]
        for i in range(len(values))
    ]
    stacked = np.concatenate(rows).astype(np.float32)
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))


def gallery() -> NDArray[np.float32]:
    """Return pictures of the gallery as the tower reads them, shape (NUMBER, 3, 96, 96)."""
    vision = load_model_folder(demo.model_directory()).vision
    prepare = Preprocessor(vision.image_size, vision.resize, vision.resample)
    pictures = []
    for path in sorted(demo.gallery_directory().rglob("*.jpg"))[:NUMBER]:
        with Image.open(path) as picture:
            pictures.append(prepare(picture))
    return normalise(np.stack(pictures), mean=vision.mean, std=vision.std)


if __name__ == "__main__":
    main()
