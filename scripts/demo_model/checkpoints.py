"""Checkpoints and the log of a training run."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


def one_cycle(share: float, *, warm_up: float = 0.12) -> float:
    """Return the learning rate's factor in [0.003, 1] at a share of the run: up, then cosine down.

    A function of the share alone, so that a resumed run needs no schedule's state.
    """
    if share < warm_up:
        return max(0.04, share / warm_up)
    return max(0.003, 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's rate to its "peak" times the one-cycle factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * one_cycle(share)


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state but keep the rates that it has now."""
    peaks = [group["peak"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["peak"] = peak


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside its name and move it there, so that a stop leaves the old one."""
    temporary = path.with_suffix(".writing")
    torch.save(state, temporary)
    temporary.replace(path)


def note(work: Path, figures: dict[str, Any]) -> None:
    """Print figures and keep them in the work folder's log."""
    line = json.dumps(figures)
    print(line, flush=True)
    with (work / "log.jsonl").open("a") as log:
        log.write(line + "\n")
