"""A stand-in hub with a tiny model, and pulls from it.

Each pull runs in a process of its own, because the hub library reads its environment once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from stand_in_hub import TINY_ROW, Hub, checkpoint_weights, preprocessor_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PULL = """
import json, sys
from pathlib import Path
from siglip_search.engine.chosen_model import embed_something
from siglip_search.errors import SiglipSearchError
from siglip_search.models.hub import pull
from siglip_search.models.registry import find_row

seen = []
arguments = json.loads(sys.argv[3])
if arguments.pop("check", False):
    arguments["check"] = embed_something
try:
    spec = pull(
        find_row("tiny", Path(sys.argv[2])), Path(sys.argv[1]), on_progress=seen.append,
        on_wait=lambda: print("waiting", flush=True), **arguments
    )
    answer = {"directory": str(spec.directory), "seen": [
        (step.file, step.done_bytes, step.total_bytes) for step in seen]}
except SiglipSearchError as error:
    answer = {"error": type(error).__name__, "message": str(error), "hint": error.hint}
print(json.dumps(answer))
"""


@dataclass
class Puller:
    """Pulls the model "tiny" into a folder of its own.

    Attributes:
        hub: Where it is pulled from.
        folder: Holds the models, the row and the hub library's cache.
        row: What the row says.
        environment: Added to the process's.
    """

    hub: Hub
    folder: Path
    row: str = TINY_ROW
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def visible(self) -> list[str]:
        """What is among the models and is not hidden."""
        return sorted(entry.name for entry in self.models.glob("[!.]*"))

    @property
    def hf_home(self) -> Path:
        return self.folder / "hf"

    def edit(self, old: str, new: str) -> None:
        assert old in self.row
        self.row = self.row.replace(old, new)

    def start(self, **arguments: Any) -> subprocess.Popen[str]:
        self.folder.mkdir(exist_ok=True)
        row = self.folder / "models.toml"
        row.write_text(self.row, encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, "-c", PULL, str(self.models), str(row), json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "HF_ENDPOINT": self.hub.endpoint,
                "HF_HOME": str(self.hf_home),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "NO_PROXY": "127.0.0.1",
                **self.environment,
            },
        )

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        process = self.start(**arguments)
        stdout, stderr = process.communicate(timeout=120)
        assert stderr == ""
        answer: dict[str, Any] = json.loads(stdout.splitlines()[-1])
        return answer


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[Hub]:
    vision = (tiny_model / "vision.onnx").read_bytes()
    text = (tiny_model / "text.onnx").read_bytes()
    files: dict[str, bytes | Path] = {
        "google/tiny/model.safetensors": checkpoint_weights(),
        "google/tiny/preprocessor_config.json": preprocessor_config(48),
        "google/tiny/spiece.model": (tiny_model / "tokenizer.model").read_bytes(),
        "Xenova/tiny/onnx/vision_model.onnx": vision,
        "Xenova/tiny/onnx/text_model.onnx": text,
        "Xenova/tiny/onnx/vision_model_quantized.onnx": vision,
        "Xenova/tiny/onnx/text_model_quantized.onnx": text,
    }
    with Hub(files).serving() as served:
        yield served


@pytest.fixture
def pull(hub: Hub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path)


@pytest.fixture(scope="session")
def tiny_whole_model() -> bytes:
    """An ONNX file as exporters write it for both towers: scale 112.5, bias -16.25."""
    numbers = {"logit_scale": np.log(112.5), "logit_bias": -16.25}
    weights = [numpy_helper.from_array(np.zeros((600, 600), np.float32), "text.weight")]
    weights += [
        numpy_helper.from_array(np.array([value], np.float32), name)
        for name, value in numbers.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["text", "image"], ["cosine"]),
        helper.make_node("Exp", ["logit_scale"], ["scale"]),
        helper.make_node("Mul", ["cosine", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "logit_bias"], ["logits_per_text"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in (("text", "image"), ("logits_per_text",))
    ]
    graph = helper.make_graph(nodes, "whole", *ends, weights)
    content: bytes = helper.make_model(graph).SerializeToString()
    return content
