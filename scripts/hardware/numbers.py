"""Checks of the numbers: of towers, of compiled contexts, and against the emulator's."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.bench import FIXED, W8A16, Bench, cosines, open_tower
from hardware.outcome import NotPossibleError, Outcome, judged
from siglip_search.engine.agreement import measure_agreement
from siglip_search.errors import ModelError
from siglip_search.export.compile_context import compile_model
from siglip_search.models.compiled_contexts import compiled_contexts
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import MIN_MEAN_COSINE, MIN_RECALL_AT_10
from siglip_search.towers.qnn_runtime import runtime_versions
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET
from siglip_search.towers.session_qnn import QnnSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.engine.agreement import Figures
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.qnn_target import Target

LEAST_COSINE = 0.9995
"""Of half precision to fp32, and of the NPU to the emulator."""
SAME_COSINE = 0.99999
"""Of a compiled context to the tower that it was compiled from."""

EMULATOR_FIGURES = Path(__file__).with_name("emulator_figures.json")
PATTERNS = 4
QUERIES = ("a red bicycle", "a cat on the beach", "three apples", "")

_REPORT = "Report this page: the numbers are not the emulator's."


def check_fp16(bench: Bench) -> Outcome:
    """Run the model in half precision, and compare with fp32 on the processor."""
    figures, found, whole = _compared(bench, bench.model(FIXED))
    return judged(whole and found.agreement.worst_cosine >= LEAST_COSINE, figures, _REPORT)


def check_w8a16(bench: Bench) -> Outcome:
    """Run the quantised model, and compare with fp32 on the processor, and what is found."""
    figures, found, whole = _compared(bench, bench.model(W8A16))
    return judged(whole and is_good_enough(found), figures, _REPORT)


def is_good_enough(found: Figures) -> bool:
    """Tell whether cosine and recall are what a variant needs, however many pictures there were."""
    return found.agreement.mean_cosine >= MIN_MEAN_COSINE and found.recall_at_10 >= MIN_RECALL_AT_10


def _compared(bench: Bench, spec: ModelSpec) -> tuple[dict[str, str], Figures, bool]:
    """Return the figures to read and to judge by, and whether all nodes are on the NPU."""
    found, expected, nodes = [], [], {}
    whole = True
    for tower, values in (("vision", bench.pixel_values), ("text", bench.ids)):
        here = open_tower(spec, tower, bench.device)
        assignment = here.opened.assignment
        whole = whole and assignment is not None and assignment.cpu == 0
        nodes[f"{tower} tower, nodes on HTP"] = here.nodes
        found.append(here.embed(values))
        expected.append(open_tower(bench.original, tower, "cpu").embed(values))
    measured = measure_agreement(
        reference_pictures=expected[0],
        variant_pictures=found[0],
        reference_texts=expected[1],
        variant_texts=found[1],
    )
    right, asked = bench.first_is_right(found[0], found[1])
    expected_right, _ = bench.first_is_right(expected[0], expected[1])
    figures = {
        **nodes,
        "pictures, queries": f"{len(found[0])}, {asked}",
        "mean cosine": f"{measured.agreement.mean_cosine:.6f}",
        "least cosine": f"{measured.agreement.worst_cosine:.6f}",
        "recall@10": f"{measured.recall_at_10:.3f}",
        "right picture first": f"{right} (on the processor {expected_right})",
    }
    return figures, measured, whole


def check_context(bench: Bench) -> Outcome:
    """Compile for this chip, load that, and compare it with the tower prepared on the spot."""
    spec, target = _copy(bench, "context"), bench.target
    begun = time.perf_counter()
    made = compile_model(spec, target)
    compiled = time.perf_counter() - begun
    values = bench.pixel_values[:8]
    open_tower(spec, "text", bench.device)  # loads the library: not a part of either time
    begun = time.perf_counter()
    fresh = open_tower(spec, "vision", bench.device)
    prepared = time.perf_counter() - begun
    contexts = compiled_contexts(spec.directory, "vision")
    begun = time.perf_counter()
    loaded = open_tower(spec, "vision", bench.device, compiled=contexts)
    load = time.perf_counter() - begun
    wanted, got = fresh.embed(values), loaded.embed(values)
    least = float(cosines(wanted, got).min())
    figures = {
        "compiling both towers, s": f"{compiled:.1f}",
        "size, MB": f"{made.size_bytes / 1e6:.1f}",
        "preparing the picture tower, s": f"{prepared:.3f}",
        "loading its context, s": f"{load:.3f}",
        "runs from": "the context" if loaded.opened.path in contexts else "the tower",
        "least cosine of the two": f"{least:.7f}",
        "largest difference": f"{np.abs(wanted - got).max():.1e}",
    }
    passed = loaded.opened.path in contexts and least >= SAME_COSINE
    why = loaded.opened.steps_down
    return judged(passed, figures, f"Report this page: {'; '.join(why)}" if why else _REPORT)


def check_wrong_chip(bench: Bench) -> Outcome:
    """Compile for another chip, and see that it is refused here."""
    own, other = bench.target, _other_chip(bench.target)
    spec = _copy(bench, "wrong-chip")
    try:
        compile_model(spec, other)
    except ModelError as error:
        raise NotPossibleError(f"this machine cannot compile for {other}: {error}") from error
    (context,) = compiled_contexts(spec.directory, "vision")
    try:
        QnnSession(context, target=own, emulator=bench.emulator, model=spec.name)
    except ModelError as error:
        refused = "compiled for" in str(error)
        return judged(refused, {"refused with": str(error), "and": error.hint}, _REPORT)
    return judged(False, {"refused with": "nothing: it was opened"}, _REPORT)


def _other_chip(own: Target) -> Target:
    """Return a chip that computes in floating point as this one does, and is not it."""
    return next(
        chip.target for chip in CHIPS.values() if own.htp_arch != chip.target.htp_arch >= 69
    )


def _copy(bench: Bench, name: str) -> ModelSpec:
    shutil.copytree(bench.model(FIXED).directory, bench.folder / name)
    return load_model_folder(bench.folder / name)


def check_emulator_figures(bench: Bench) -> Outcome:
    """Compare vectors with those that the emulator computed when this was written."""
    recorded = json.loads(EMULATOR_FIGURES.read_text(encoding="utf-8"))
    figures = {"recorded with": recorded["made with"]}
    least = 1.0
    for tower, found in emulator_vectors(bench).items():
        expected = np.array(recorded[tower], np.float32)
        near = cosines(found, expected / np.linalg.norm(expected, axis=1, keepdims=True))
        least = min(least, float(near.min()))
        figures[f"{tower}: least cosine"] = f"{near.min():.7f}"
        figures[f"{tower}: largest difference"] = f"{np.abs(found - expected).max():.1e}"
    return judged(least >= LEAST_COSINE, figures, _REPORT)


def emulator_vectors(bench: Bench) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of a few patterns and words, which are the same on every machine."""
    spec = bench.model(FIXED)
    height, width = spec.vision.image_size
    x, y, colour = np.meshgrid(np.arange(width), np.arange(height), np.arange(3), indexing="xy")
    pictures = [
        ((x * (n + 1) + y * (2 * n + 1)) * (colour + n + 1) // 3 + 40 * n) % 256
        for n in range(PATTERNS)
    ]
    values = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return {
        "vision": open_tower(spec, "vision", bench.device).embed(values),
        "text": open_tower(spec, "text", bench.device).embed(bench.encode(QUERIES)),
    }


def record_emulator_figures(bench: Bench) -> Outcome:
    """Write the file that `check_emulator_figures` reads."""
    assert bench.emulator
    versions = runtime_versions()
    figures: dict[str, Any] = {
        "made with": f"python scripts/hardware_check.py --record; target {DEFAULT_TARGET}, "
        + ", ".join(f"{name} {found}" for name, found in versions.items())
    }
    for tower, found in emulator_vectors(bench).items():
        # Half precision has three digits and a half; six keep what it says.
        figures[tower] = [[round(float(number), 6) for number in row] for row in found]
    lines = json.dumps(figures).replace("], [", "],\n[").replace("]], ", "]],\n")
    EMULATOR_FIGURES.write_text(lines + "\n", encoding="utf-8")
    return judged(True, {"written": EMULATOR_FIGURES.name}, "")
