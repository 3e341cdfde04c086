"""Pretrain the picture tower on labels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from demo_model.checkpoints import note, restore, save, set_rate
from demo_model.shards import batches, load_scenes, to_tensor
from demo_model.towers import VisionTower
from demo_model.world import COLOUR_NAMES, PLACE_NAMES, THINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from demo_model.scenes import Truth


class Labels(nn.Module):
    """Heads that name what a scene holds, for pretraining."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.things = nn.Linear(width, len(THINGS))
        self.colours = nn.Linear(width, len(COLOUR_NAMES) + 1)
        self.places = nn.Linear(width, len(PLACE_NAMES))
        self.counts = nn.Linear(width, 4)

    def loss(self, features: Tensor, truth: Truth) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss and accuracies over scenes of one item."""
        features = features.float()
        device = features.device
        things, colours, counts, places = (
            torch.from_numpy(a.astype(np.int64)).to(device)
            for a in (truth.things, truth.colours, truth.counts, truth.places)
        )
        single = things[:, 1] < 0

        def shared(scores: Tensor, labels: Tensor) -> Tensor:
            log = scores.log_softmax(-1)
            own = log.gather(1, labels.clamp(min=0))
            weight = (labels >= 0).float()
            return -((own * weight).sum(1) / weight.sum(1)).mean()

        thing_scores, colour_scores = self.things(features), self.colours(features)
        place_scores = self.places(features)
        loss = shared(thing_scores, things) + 0.4 * shared(colour_scores, colours)
        loss = loss + 0.2 * functional.cross_entropy(place_scores, places)
        loss = loss + 0.15 * functional.cross_entropy(
            self.counts(features)[single], counts[single, 0] - 1
        )
        with torch.no_grad():
            figures = {
                "thing": float((thing_scores.argmax(1) == things[:, 0])[single].float().mean()),
                "colour": float((colour_scores.argmax(1) == colours[:, 0])[single].float().mean()),
                "place": float((place_scores.argmax(1) == places).float().mean()),
            }
        return loss, figures


def pretrain(work: Path, config: dict[str, Any], device: torch.device) -> None:
    """Train the picture tower to name things, colours, places and counts."""
    final = work / "pretrained.pt"
    if final.exists():
        return
    settings, shape = config["pretrain"], config["model"]
    torch.manual_seed(config["seed"])
    tower = VisionTower(shape["dimension"], shape["vision_widths"], shape["vision_blocks"])
    tower = tower.to(device, memory_format=torch.channels_last)
    heads = Labels(tower.width).to(device)
    parameters = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "peak": settings["peak_rate"]}],
        weight_decay=settings["weight_decay"],
    )
    steps = settings["pictures"] // settings["batch"]
    step = 0
    partial = work / "pretrain.partial.pt"
    if partial.exists():
        saved = torch.load(partial, weights_only=True)
        tower.load_state_dict(saved["tower"])
        heads.load_state_dict(saved["heads"])
        restore(optimizer, saved["optimizer"])
        step = saved["step"]
    began, began_step = time.monotonic(), step
    sums: dict[str, float] = {}
    seen = 0
    sources = {kind: load_scenes(work / "scenes", kind) for kind in ("easy", "full")}
    order: Iterator[NDArray[np.int64]] | None = None
    kind = ""
    while step < steps:
        now = "easy" if step < settings["easy_until"] * steps else "full"
        if now != kind or order is None:
            kind = now
            order = batches(len(sources[kind].truth), settings["batch"], config["seed"], step)
        rows = next(order)
        small = step < settings["small_until"] * steps
        side = settings["small_side"] if small else shape["image_side"]
        torch.manual_seed(config["seed"] * 1_000_003 + step)
        x = to_tensor(sources[kind].pixels(rows), side, device)
        with torch.autocast(device.type, torch.bfloat16):
            features = tower.features(x)
        loss, figures = heads.loss(features, sources[kind].truth.take(rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        set_rate(optimizer, step / steps)
        optimizer.step()
        step += 1
        seen += 1
        for key, value in {**figures, "loss": float(loss.detach())}.items():
            sums[key] = sums.get(key, 0) + value
        if step % 200 == 0 or step == steps:
            rate = (step - began_step) * settings["batch"] / (time.monotonic() - began)
            means = {key: round(value / seen, 3) for key, value in sums.items()}
            note(
                work,
                {
                    "stage": "pretrain",
                    "step": step,
                    "of": steps,
                    "side": side,
                    "per_second": round(rate),
                    **means,
                },
            )
            sums, seen = {}, 0
        if step % 1000 == 0 or step == steps:
            state = {
                "tower": tower.state_dict(),
                "heads": heads.state_dict(),
                "step": step,
                "optimizer": optimizer.state_dict(),
            }
            save(state, partial)
    note(
        work,
        {
            "stage": "pretrain",
            "seconds": round(time.monotonic() - began),
            "steps": step - began_step,
        },
    )
    save({"tower": tower.state_dict(), "heads": heads.state_dict()}, final)
