"""Make static, int8 and W8A16 variants of the model and compare them with the shipped towers.

    python -m demo_model.variants --out build/demo-variants        (from the scripts folder)

"static" has a batch of one and every constant folded, as an accelerator's compiler wants it;
"int8" is ONNX Runtime's dynamic quantisation; "w8a16" has QDQ nodes with 8-bit weights and 16-bit
activations, calibrated on training-side scenes and captions. Prints the cosine of every variant's
embeddings to the shipped ones and R@1 over the unseen scenes of evaluation.toml's first seed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

from demo_model.captions import full_query, say, truths
from demo_model.evaluation import Model, distinct_scenes, draw_pictures, hit_rates
from demo_model.scenes import Art, load_config, sample_scene, truth_of

if TYPE_CHECKING:
    from demo_model.captions import Float

REPOSITORY = Path(__file__).resolve().parent.parent.parent


class _Rows(quantization.CalibrationDataReader):
    """Feeds one row at a time."""

    def __init__(self, name: str, rows: Any) -> None:
        self._rows = iter([{name: row[None]} for row in rows])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next row's input, None at the end."""
        return next(self._rows, None)


def fold(source: Path, out: Path, batch: int | None) -> None:
    """Write a tower with fp32 constants folded, and the batch fixed unless None."""
    model = onnx.load(str(source))
    if batch is not None:
        make_dim_param_fixed(model.graph, "batch", batch)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def quantize_w8a16(source: Path, out: Path, name: str, rows: Any) -> None:
    """Write a QDQ tower with 8-bit weights per channel and 16-bit activations."""
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(out),
        _Rows(name, rows),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt16,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        extra_options={"UseQDQContribOps": True},
    )
    prepared.unlink()


def run(path: Path, name: str, rows: Any, batch: int) -> Float:
    """Return a tower's embeddings of rows."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {name: rows[i : i + batch]})[0] for i in range(0, len(rows), batch)]
    return np.concatenate(parts)


def main() -> None:
    """Make the variants and print how they agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=REPOSITORY / "siglip_search/demo/model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the variants")
    parser.add_argument("--scenes", type=int, default=1000)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model, art = Model(arguments.model), Art()
    seed = load_config("evaluation.toml")["seeds"][0]

    rng = np.random.default_rng((load_config("config.toml")["seed"], 11))
    scenes = [sample_scene(rng) for _ in range(200)]
    pixels = model.pixel_values(draw_pictures(art, scenes, rng))
    ids = model.tokenizer([say(full_query(scene, rng), rng) for scene in scenes])
    shipped = {"vision": arguments.model / "vision.onnx", "text": arguments.model / "text.onnx"}
    calibration = {"vision": ("pixel_values", pixels), "text": ("input_ids", ids)}
    for tower, source in shipped.items():
        name, rows = calibration[tower]
        fold(source, out / f"{tower}.folded.onnx", None)
        fold(source, out / f"{tower}.static.onnx", 1)
        quantization.quantize_dynamic(
            str(out / f"{tower}.folded.onnx"),
            str(out / f"{tower}.int8.onnx"),
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )
        quantize_w8a16(out / f"{tower}.static.onnx", out / f"{tower}.w8a16.onnx", name, rows)

    rng = np.random.default_rng((seed, 1))
    scenes = distinct_scenes(rng, arguments.scenes)
    pixels = model.pixel_values(draw_pictures(art, scenes, rng))
    queries = [full_query(scene, rng) for scene in scenes]
    ids = model.tokenizer([say(query, rng) for query in queries])
    truth = truths(truth_of(scenes), queries, art.natural_colours)
    pictures = run(shipped["vision"], "pixel_values", pixels, 64)
    texts = run(shipped["text"], "input_ids", ids, 128)
    print("| variant | MB | vision cosine, mean and least | text cosine, mean and least | R@1 |")
    print("|---|---:|---:|---:|---:|")
    for kind in ("shipped", "static", "int8", "w8a16"):
        batch = 1 if kind in ("static", "w8a16") else 64
        files = {t: shipped[t] if kind == "shipped" else out / f"{t}.{kind}.onnx" for t in shipped}
        v = run(files["vision"], "pixel_values", pixels, batch)
        t = run(files["text"], "input_ids", ids, batch)
        near_v, near_t = (v * pictures).sum(1), (t * texts).sum(1)
        rate = hit_rates((v @ t.T).T, truth.T)["R@1"]
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        print(
            f"| {kind} | {size:.1f} | {near_v.mean():.5f}, {near_v.min():.5f} "
            f"| {near_t.mean():.5f}, {near_t.min():.5f} | {rate:.3f} |"
        )
    shutil.copyfile(arguments.model / "tokenizer.model", out / "tokenizer.model")


if __name__ == "__main__":
    main()
