"""Compare the demonstration model in fp32, in half precision on an NPU, and in W8A16 on it.

    python scripts/eval_npu.py                    on the emulator (x86-64); takes some minutes
    python scripts/eval_npu.py --device npu

Asks every simple query of the gallery's world (a thing; it in its colour; it in its place) and
counts how often the first picture is a right one. 64 of the gallery's 120 pictures are
quantised with; the cosines are of the others. Nothing is installed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from demo_model.captions import say
from eval_demo_model import gallery_queries, read_gallery
from hardware.making import write_fixed

from siglip_search import demo
from siglip_search.engine.agreement import measure_agreement
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.picture_sample import folder_pictures
from siglip_search.engine.w8a16 import PICTURE_SAMPLES, make_w8a16
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device


def embed(
    spec: ModelSpec, device: Device, pictures: list[Image.Image], queries: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """Return the vectors of pictures and queries, and how many nodes ran where."""
    vision, text = VisionTower(spec, device=device), TextTower(spec, device=device)
    nodes = "-"
    if vision.opened.assignment is not None and text.opened.assignment is not None:
        both = (vision.opened.assignment, text.opened.assignment)
        nodes = f"{sum(one.npu for one in both)} of {sum(one.npu + one.cpu for one in both)}"
    pixels = [vision.preprocessor(picture)[None] for picture in pictures]
    return (
        np.concatenate([vision.embed(one) for one in pixels]),
        np.concatenate([text.embed([words]) for words in queries]),
        nodes,
    )


def first_is_right(
    pictures: NDArray[np.float32],
    queries: NDArray[np.float32],
    asked: list[tuple[Any, set[int], set[int]]],
) -> int:
    """Count the queries whose best picture is a right one; doubtful ones are passed over."""
    count = 0
    for scores, (_, right, doubtful) in zip(queries @ pictures.T, asked, strict=True):
        count += next(int(i) for i in np.argsort(-scores) if int(i) not in doubtful) in right
    return count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("npu-emulator", "npu"), default="npu-emulator")
    device: Device = parser.parse_args().device
    reference = load_model_folder(demo.model_directory())
    truth, pictures = read_gallery(demo.gallery_directory())
    asked = gallery_queries(truth)
    chance = np.random.default_rng(0)
    queries = [say(query, chance, "{x}") for query, _, _ in asked]
    paths = folder_pictures(demo.gallery_directory())
    with tempfile.TemporaryDirectory() as folder:
        made = make_w8a16(
            reference,
            Path(folder, "models"),
            paths,
            pictures=0,
            cores=available_cores(),
            limits=DecodeLimits(),
        )
        static = write_fixed(reference, Path(folder, "static"))
        others = unused(truth, paths)
        rows: list[tuple[str, ModelSpec, Device]] = [
            ("fp32 on the processor", reference, "cpu"),
            (f"half precision on the {device}", static, device),
            (f"W8A16 on the {device}", made.spec, device),
            ("W8A16, simulated on the processor", made.spec, "cpu"),
        ]
        print("| | MB | nodes on HTP | pictures: cosine | queries: cosine | recall@10 | R@1 |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        wanted: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        for title, spec, where in rows:
            vectors, texts, nodes = embed(spec, where, pictures, queries)
            wanted = wanted or (vectors, texts)
            figures = measure_agreement(
                reference_pictures=wanted[0],
                variant_pictures=vectors,
                reference_texts=wanted[1],
                variant_texts=texts,
            )
            held_out = np.einsum("nd,nd->n", wanted[0][others], vectors[others])
            print(
                f"| {title} | {spec.disk_bytes / 1e6:.1f} | {nodes} "
                f"| {held_out.mean():.5f} ({held_out.min():.5f}) "
                f"| {figures.text_cosine_mean:.5f} ({figures.text_cosine_worst:.5f}) "
                f"| {figures.recall_at_10:.3f} "
                f"| {first_is_right(vectors, texts, asked) / len(asked):.3f} |",
                flush=True,
            )
    print(
        f"\n{len(pictures)} pictures, {len(asked)} queries; cosines (least in brackets) of "
        f"{len(others)} pictures that were not quantised with"
    )


def unused(truth: dict[str, Any], paths: list[bytes]) -> list[int]:
    """Return the numbers of the gallery's pictures that were not quantised with."""
    gallery = demo.gallery_directory()
    used = {Path(path.decode()).relative_to(gallery).as_posix() for path in paths[:PICTURE_SAMPLES]}
    return [n for n, facts in enumerate(truth["pictures"]) if facts["file"] not in used]


if __name__ == "__main__":
    main()
