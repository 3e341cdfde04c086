"""Checks of the machine and of its driver, and those that make the models for the others."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING

import onnx

from hardware import machine
from hardware.bench import FIXED, W8A16, Bench
from hardware.outcome import NOT_POSSIBLE, PASS, Outcome, judged
from siglip_search import demo
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.picture_sample import folder_pictures
from siglip_search.engine.w8a16 import PICTURE_SAMPLES, make_w8a16
from siglip_search.export.static_shapes import static_picture_tower, static_text_tower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import MODEL_FILE
from siglip_search.photos.decode import DecodeLimits
from siglip_search.settings import models_directory
from siglip_search.towers.device_probe import probe
from siglip_search.towers.devices import automatic_device, list_devices
from siglip_search.towers.qnn_chip import this_processor
from siglip_search.towers.qnn_runtime import runtime_versions

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

_DRIVER = (
    "Update the NPU's driver and onnxruntime-qnn; a crash or a wrong number is worth a report."
)

_NO_NPU = (
    "A Qualcomm NPU is in arm64 machines under Linux or Windows. On a Snapdragon machine install "
    "the Python for arm64: one for x86-64 runs there too, and sees no NPU."
)


def check_machine(bench: Bench) -> Outcome:
    """Ask the system what this is, and whether the chip is a known one."""
    processor = this_processor()
    figures = {
        "processor, as the system calls it": processor.description or "nothing",
        "recognised as": "not recognised" if processor.target is None else processor.target.name,
        "system": machine.system(),
        "cores for this process": str(available_cores()),
        "memory": machine.memory_gb(),
        "Python": platform.python_version(),
        "siglip-search": metadata.version("siglip-search"),
        **{name: found or "not installed" for name, found in runtime_versions().items()},
    }
    if bench.emulator:
        return Outcome(NOT_POSSIBLE, figures, "The emulator's machine has no chip to recognise.")
    if processor.arch != "arm64" or sys.platform not in {"linux", "win32"}:
        return Outcome(NOT_POSSIBLE, figures, _NO_NPU)
    return judged(
        processor.target is not None,
        figures,
        "Report the processor's name: it belongs into CHIPS in towers/qnn_target.py. Float towers "
        "need a recognised chip; quantised ones do not.",
    )


def check_devices(bench: Bench) -> Outcome:
    """See whether the device can be used, and what "auto" takes."""
    reports = list_devices()
    figures = {one.name: "usable" if one.usable else one.reason for one in reports}
    figures["auto takes"] = automatic_device(reports)
    own = next(one for one in reports if one.name == bench.device)
    taken = "cpu" if bench.emulator else "npu"
    return judged(own.usable and figures["auto takes"] == taken, figures, own.hint or _DRIVER)


def check_probe(bench: Bench) -> Outcome:
    """Try the driver with a graph of one product, in a process of its own."""
    begun = time.perf_counter()
    found = probe("npu-emulator" if bench.emulator else "npu", bench.chip)
    figures = {"answer": found.reason or "usable, right numbers"}
    figures["seconds, with the process"] = f"{time.perf_counter() - begun:.2f}"
    return judged(found.usable, figures, _DRIVER)


def check_listing(bench: Bench) -> Outcome:
    """See whether the device is listed as an NPU, and what its driver calls itself."""
    found = probe("npu-emulator" if bench.emulator else "npu", bench.chip)
    figures = {name: value or "nothing" for name, value in found.hardware.items()}
    if bench.emulator:
        return Outcome(NOT_POSSIBLE, figures, "The emulator is listed as a processor.")
    return judged(
        figures.get("kind") == "NPU",
        figures,
        "It is reached through an entry that is no NPU's: report this page, and check the numbers "
        "below.",
    )


def make_fixed(bench: Bench) -> Outcome:
    """Write the demonstration model for a batch of 1, as `model export --batch 1` does others."""
    made = write_fixed(bench.original, models_directory() / FIXED)
    return Outcome(PASS, {"model": made.name})


def write_fixed(reference: ModelSpec, folder: Path) -> ModelSpec:
    """Write a model with the fixed shapes that an NPU wants, in fp32, as `FIXED`."""
    shutil.copytree(reference.directory, folder)
    onnx.save(static_picture_tower(reference), os.fspath(folder / reference.vision.file))
    onnx.save(static_text_tower(reference), os.fspath(folder / reference.text.file))
    facts = dataclasses.replace(reference, name=FIXED)
    (folder / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")
    return load_model_folder(folder)


def make_quantised(bench: Bench) -> Outcome:
    """Quantise it to 8-bit weights and 16-bit activations, with pictures of the gallery."""
    begun = time.perf_counter()
    made = make_w8a16(
        bench.original,
        models_directory(),
        folder_pictures(demo.gallery_directory())[:PICTURE_SAMPLES],
        pictures=0,
        cores=available_cores(),
        limits=DecodeLimits(),
    )
    figures = {"seconds": f"{time.perf_counter() - begun:.1f}", "pictures": str(made.samples)}
    return judged(made.spec.name == W8A16, figures, "Report this page.")
