"""The references themselves: the libraries that defined the models, from the extra `reference`."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "open_clip")


@pytest.fixture(scope="session", autouse=True)
def references() -> None:
    """Skip what cannot be compared, and let the libraries be imported in any combination."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (the extra `reference`)")
    import torch

    # torchvision's wheels for CUDA do not load beside a torch for the processor alone, as long as
    # nobody has said what these two operators look like; nothing here calls them.
    if not hasattr(torch.ops.torchvision, "nms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", signature)
    with warnings.catch_warnings():
        # What they say about their own insides while they load is not ours to mend.
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)


@pytest.fixture(scope="session")
def goldens() -> ModuleType:
    """The script that makes the golden ids, with its strings, vocabularies and references."""
    name = "make_tokenizer_goldens"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
