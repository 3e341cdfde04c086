"""Draw the training scenes to files, and read them back in batches."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from demo_model.scenes import Art, Truth, render_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_art: Art | None = None


KINDS = ("full", "easy", "hard")
"""Of scenes; the place of each is part of its seeds."""


def _render_shard(job: tuple[Path, int, str, dict[str, Any], int]) -> None:
    """Draw one shard of scenes to a file, unless it is there already."""
    global _art
    path, number, kind, settings, side = job
    if path.with_suffix(".npz").exists():
        return
    _art = _art or Art()
    pixels, truth, _ = render_batch(
        (settings["seed"], KINDS.index(kind), number),
        settings["shard"],
        side,
        _art,
        backdrops=settings["backdrop_seed"],
        easy=kind == "easy",
        hard=kind == "hard",
    )
    np.save(path.with_suffix(".npy"), pixels)
    np.savez(path.with_suffix(".npz"), **vars(truth))


def render_scenes(folder: Path, config: dict[str, Any], processes: int) -> None:
    """Draw all shards of training scenes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings, side = config["render"], config["model"]["image_side"]
    jobs = [
        (folder / f"{kind}-{n:03}", n, kind, settings, side)
        for kind in KINDS
        for n in range(settings[f"{kind}_shards"])
    ]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap(_render_shard, jobs), 1):
            print(f"scenes: {done}/{len(jobs)} shards", flush=True)


@dataclass(frozen=True)
class Scenes:
    """Drawn scenes: memory-mapped pixels by shard, and their truth in one piece."""

    shards: list[NDArray[np.uint8]]
    truth: Truth

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pixels (n, side, side, 3) of some scenes."""
        size = len(self.shards[0])
        return np.stack([self.shards[row // size][row % size] for row in rows])


def load_scenes(folder: Path, *kinds: str) -> Scenes:
    """Open all shards of some of `KINDS`."""
    files = [file for kind in kinds for file in sorted(folder.glob(f"{kind}-*.npz"))]
    parts = [np.load(file) for file in files]
    truth = Truth(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0].files})
    return Scenes([np.load(f.with_suffix(".npy"), mmap_mode="r") for f in files], truth)


def batches(count: int, batch: int, seed: int, start: int) -> Iterator[NDArray[np.int64]]:
    """Yield shuffled batches of row numbers for ever, from batch number `start` on."""
    per_epoch = count // batch
    step = start
    while True:
        order = np.random.default_rng((seed, step // per_epoch)).permutation(count)
        for k in range(step % per_epoch, per_epoch):
            yield np.sort(order[k * batch : (k + 1) * batch])
            step += 1


def to_tensor(pixels: NDArray[np.uint8], side: int, device: torch.device) -> Tensor:
    """Turn pixels into the picture tower's input, mirrored at random, at the given side."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    if side != x.shape[-1]:
        x = functional.interpolate(
            x, (side, side), mode="bicubic", antialias=True, align_corners=False
        )
    return x.contiguous(memory_format=torch.channels_last)
