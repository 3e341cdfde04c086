"""Weights that do not fit into one ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from siglip_search.export.to_onnx import gather_weights
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_in_many_files_come_together_in_one(tiny_model: Path, tmp_path: Path) -> None:
    spec = load_model_folder(tiny_model)
    scattered, gathered = tmp_path / "scattered", tmp_path / "gathered"
    scattered.mkdir()
    gathered.mkdir()
    # One file for each weight beside the graph: what the exporter writes beyond 2 GiB.
    onnx.save_model(
        onnx.load(str(spec.text_path)),
        str(scattered / "text.onnx"),
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    assert len(list(scattered.iterdir())) > 5
    name = gather_weights(scattered / "text.onnx", gathered / "text.onnx")
    assert {path.name for path in gathered.iterdir()} == {"text.onnx", name}
    assert len({path.stat().st_mode for path in gathered.iterdir()}) == 1
    ids = np.arange(32, dtype=np.int64).reshape(2, 16)
    (ours,) = CpuSession(gathered / "text.onnx").run({"input_ids": ids}, ["pooler_output"])
    (whole,) = CpuSession(spec.text_path).run({"input_ids": ids}, ["pooler_output"])
    np.testing.assert_array_equal(ours, whole)
    assert token_table_rows(gathered / "text.onnx", "input_ids") == 320
