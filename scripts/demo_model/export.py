"""Write the trained towers as a model folder: two ONNX files, the tokenizer and model.toml."""

from __future__ import annotations

import hashlib
import io
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from demo_model.joint import build
from siglip_search.export.fp16_storage import store_weights_fp16
from siglip_search.models.model_toml import PREPROCESSING_RULES, model_toml
from siglip_search.models.spec import MODEL_FILE, ModelFacts, ScoreSpec, TextSpec, VisionSpec

if TYPE_CHECKING:
    from pathlib import Path

    from demo_model.towers import DualTower

OPSET = 17


def load_trained(work: Path, config: dict[str, Any]) -> DualTower:
    """Return the furthest model that the work folder holds, of a stage so far or at its end."""
    model = build(config)
    for stage in ("polish", "finish", "joint", "text"):
        for file in (work / f"{stage}.pt", work / f"{stage}.partial.pt"):
            if file.exists():
                model.load_state_dict(torch.load(file, weights_only=True)["model"])
                return model.eval()
    raise FileNotFoundError(f"no trained model in {work}; run the training stages first")


def checkpoint_hash(model: DualTower) -> str:
    """Return SHA-256 over names and fp32 bytes of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.float().cpu().numpy()).tobytes())
    return digest.hexdigest()


def to_onnx(tower: torch.nn.Module, example: torch.Tensor, input_name: str) -> onnx.ModelProto:
    """Export a tower in fp32 with a free batch axis; batch normalisation is folded away."""
    stream = io.BytesIO()
    torch.onnx.export(
        tower,
        (example,),
        stream,
        input_names=[input_name],
        output_names=["embedding"],
        dynamic_axes={input_name: {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )
    return onnx.load_from_string(stream.getvalue())


def agreement(model: DualTower, folder: Path, side: int) -> None:
    """Print the least cosine between the written towers and torch in fp32."""
    from demo_model.evaluation import Model

    written = Model(folder)
    pixels = torch.rand(16, 3, side, side) * 2 - 1
    texts = ["red bicycle", "a dog on the beach", "two cats", "where is my invoice", ""]
    ids = written.tokenizer(texts)
    with torch.inference_mode():
        pictures, words = model.vision(pixels).numpy(), model.text(torch.from_numpy(ids)).numpy()
    ours = written.vision.run(None, {"pixel_values": pixels.numpy()})[0]
    theirs = written.text.run(None, {"input_ids": ids})[0]
    print(
        f"least cosine to torch: vision {(ours * pictures).sum(1).min():.6f}, "
        f"text {(theirs * words).sum(1).min():.6f}"
    )


def export_model(
    work: Path, config: dict[str, Any], out: Path, *, min_probability: float | None = None
) -> None:
    """Write the model folder, then choose its default cut on training-side scenes."""
    from demo_model.evaluation import Model, choose_cut

    model = load_trained(work, config)
    shape = config["model"]
    out.mkdir(parents=True, exist_ok=True)
    side, length = shape["image_side"], shape["text_length"]
    vision = to_onnx(model.vision, torch.randn(2, 3, side, side), "pixel_values")
    ids = torch.full((2, length), shape["pad_id"])
    ids[:, :4] = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 1]])
    text = to_onnx(model.text, ids, "input_ids")
    for tower, name in ((vision, "vision.onnx"), (text, "text.onnx")):
        store_weights_fp16(tower, look_up_first=False)
        onnx.checker.check_model(tower)
        onnx.save(tower, str(out / name))
    shutil.copyfile(work / "tokenizer.model", out / "tokenizer.model")

    def write(cut: float) -> None:
        facts = ModelFacts(
            name="demo",
            title="Bundled demonstration model",
            licence="Apache-2.0",
            languages=("en",),
            notice="A demonstration on drawings, not photographs.",
            dimension=shape["dimension"],
            checkpoint=f"sha256:{checkpoint_hash(model)}",
            preprocessing=PREPROCESSING_RULES,
            vision=VisionSpec(
                file="vision.onnx",
                data_files=(),
                precision="fp32",
                image_size=(side, side),
                resize="squash",
                resample="bicubic",
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
            ),
            text=TextSpec(
                file="text.onnx",
                data_files=(),
                precision="fp32",
                tokenizer="sentencepiece",
                tokenizer_file="tokenizer.model",
                canonicalize="lowercase-no-punctuation",
                length=length,
                pad_id=shape["pad_id"],
                end_id=1,
            ),
            score=ScoreSpec(
                logit_scale=round(float(model.log_scale.detach().exp()), 6),
                logit_bias=round(float(model.bias.detach()), 6),
                min_probability=cut,
            ),
        )
        (out / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")

    write(0.5)
    agreement(model, out, side)
    write(choose_cut(Model(out), config) if min_probability is None else min_probability)
