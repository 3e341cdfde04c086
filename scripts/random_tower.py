"""Write a model folder with random weights in SigLIP's shape, with nothing but `onnx` and numpy.

Benchmarks and tests need towers that cost and compute what the real ones do, not what they know:
patch convolution, pre-norm encoder, tanh GELU, attention pooling on the picture side and the last
position on the text side (arXiv:2303.15343; transformers' `SiglipModel`). What such a model ranks
means nothing.

    python scripts/random_tower.py DIRECTORY --shape base-384
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import sentencepiece
from onnx import TensorProto, helper, numpy_helper

from siglip_search.models.model_toml import PREPROCESSING_RULES, model_toml
from siglip_search.models.spec import MODEL_FILE, ModelFacts, ScoreSpec, TextSpec, VisionSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

LAYER_NORM_EPSILON = 1e-6
OPSET = 20  # the first with Gelu


@dataclass(frozen=True)
class TowerShape:
    """Sizes of a dual tower.

    Attributes:
        dimension: Width of both encoders and length of an embedding.
        depth: Encoder layers of each tower.
        heads: Attention heads; divides `dimension`.
        mlp: Width of the hidden layer in each block.
        image_size_px: Height and width of the picture.
        patch_px: Height and width of a patch.
        vocabulary: Rows of the token table; at least the tokenizer's pieces.
        length: Ids per text.
    """

    dimension: int
    depth: int
    heads: int
    mlp: int
    image_size_px: int
    patch_px: int
    vocabulary: int
    length: int


SHAPES = {
    "base-384": TowerShape(768, 12, 12, 3072, 384, 16, 32_000, 64),
    "base-224": TowerShape(768, 12, 12, 3072, 224, 16, 32_000, 64),
    "tiny": TowerShape(32, 2, 2, 64, 48, 16, 320, 16),
}


def write_random_model(
    directory: Path,
    *,
    shape: str = "tiny",
    name: str | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Path:
    """Write a whole model folder that `load_model_folder` reads.

    Args:
        directory: Made if need be; files of the same names are replaced.
        shape: Key of `SHAPES`.
        name: The model's name; by default `random-SHAPE`.
        seed: Of the weights.
        batch: A fixed batch size for both towers; None for any.

    Returns:
        `directory`.
    """
    sizes = SHAPES[shape]
    directory.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    onnx.save(vision_tower(sizes, generator, batch=batch), str(directory / "vision.onnx"))
    onnx.save(text_tower(sizes, generator, batch=batch), str(directory / "text.onnx"))
    (directory / "tokenizer.model").write_bytes(train_tokenizer(seed))
    checkpoint = hashlib.sha256(f"{sizes} {seed}".encode()).hexdigest()
    facts = ModelFacts(
        name=name or f"random-{shape}",
        title=f"Random weights in the shape of SigLIP {shape}",
        licence="Apache-2.0",
        languages=("en",),
        notice="Random weights: what it ranks means nothing.",
        dimension=sizes.dimension,
        checkpoint=f"sha256:{checkpoint}",
        preprocessing=PREPROCESSING_RULES,
        vision=VisionSpec(
            file="vision.onnx",
            data_files=(),
            precision="fp32",
            image_size=(sizes.image_size_px, sizes.image_size_px),
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
            length=sizes.length,
            pad_id=1,
            end_id=1,
        ),
        score=ScoreSpec(logit_scale=10.0, logit_bias=0.0, min_probability=0.0),
    )
    (directory / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")
    return directory


def train_tokenizer(seed: int = 0) -> bytes:
    """Return a small SentencePiece model with c4_en's special ids: pad 0, end 1, unknown 2."""
    serialized = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(random.Random(seed)),
        model_writer=serialized,
        model_type="unigram",
        vocab_size=300,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return serialized.getvalue()


def vision_tower(
    shape: TowerShape, generator: np.random.Generator, *, batch: int | None = None
) -> onnx.ModelProto:
    """Return the tower from `pixel_values` float32 (batch, 3, size, size) to `pooler_output`."""
    graph = _Graph(generator)
    patches = (shape.image_size_px // shape.patch_px) ** 2
    kernel = graph.weight((shape.dimension, 3, shape.patch_px, shape.patch_px), "patch.weight")
    x = graph.node(
        "Conv",
        ["pixel_values", kernel, graph.bias(shape.dimension, "patch.bias")],
        strides=[shape.patch_px, shape.patch_px],
    )
    x = graph.reshape(x, (0, shape.dimension, patches))
    x = graph.node("Transpose", [x], perm=[0, 2, 1])
    x = graph.node("Add", [x, graph.weight((1, patches, shape.dimension), "position")])
    x = _encoder(graph, x, shape)
    x = graph.layer_norm(x, shape.dimension, "post_layernorm")
    pooled = _attention_pool(graph, x, shape)
    image = ["batch" if batch is None else batch, 3, shape.image_size_px, shape.image_size_px]
    return graph.model("pixel_values", TensorProto.FLOAT, image, pooled, shape.dimension)


def text_tower(
    shape: TowerShape, generator: np.random.Generator, *, batch: int | None = None
) -> onnx.ModelProto:
    """Return the tower from `input_ids` int64 (batch, length) to `pooler_output`."""
    graph = _Graph(generator)
    table = graph.weight((shape.vocabulary, shape.dimension), "token_embedding", scale=1.0)
    x = graph.node("Gather", [table, "input_ids"], axis=0)
    position = graph.weight((1, shape.length, shape.dimension), "position", scale=0.5)
    x = graph.node("Add", [x, position])
    x = _encoder(graph, x, shape)
    x = graph.layer_norm(x, shape.dimension, "final_layer_norm")
    # The last position, padding or not: SigLIP's text tower has no mask.
    x = graph.node("Gather", [x, graph.constant(np.array(shape.length - 1))], axis=1)
    pooled = graph.linear(x, shape.dimension, shape.dimension, "head")
    ids = ["batch" if batch is None else batch, shape.length]
    return graph.model("input_ids", TensorProto.INT64, ids, pooled, shape.dimension)


def _encoder(graph: _Graph, x: str, shape: TowerShape) -> str:
    for layer in range(shape.depth):
        prefix = f"layers.{layer}"
        normed = graph.layer_norm(x, shape.dimension, f"{prefix}.layer_norm1")
        attended = _attention(graph, normed, normed, shape, f"{prefix}.self_attn")
        x = graph.node("Add", [x, attended])
        normed = graph.layer_norm(x, shape.dimension, f"{prefix}.layer_norm2")
        x = graph.node("Add", [x, _mlp(graph, normed, shape, f"{prefix}.mlp")])
    return x


def _attention_pool(graph: _Graph, x: str, shape: TowerShape) -> str:
    probe = graph.weight((1, 1, shape.dimension), "head.probe", scale=1.0)
    attended = _attention(graph, probe, x, shape, "head.attention")
    normed = graph.layer_norm(attended, shape.dimension, "head.layernorm")
    summed = graph.node("Add", [attended, _mlp(graph, normed, shape, "head.mlp")])
    return graph.reshape(summed, (-1, shape.dimension))


def _attention(graph: _Graph, queries: str, keys: str, shape: TowerShape, prefix: str) -> str:
    width, heads = shape.dimension, shape.heads
    split = (0, -1, heads, width // heads)
    query = graph.reshape(graph.linear(queries, width, width, f"{prefix}.q"), split)
    key = graph.reshape(graph.linear(keys, width, width, f"{prefix}.k"), split)
    value = graph.reshape(graph.linear(keys, width, width, f"{prefix}.v"), split)
    query = graph.node("Transpose", [query], perm=[0, 2, 1, 3])
    key = graph.node("Transpose", [key], perm=[0, 2, 3, 1])
    value = graph.node("Transpose", [value], perm=[0, 2, 1, 3])
    scores = graph.node("MatMul", [query, key])
    scale = graph.constant(np.array((width // heads) ** -0.5, dtype=np.float32))
    weights = graph.node("Softmax", [graph.node("Mul", [scores, scale])], axis=-1)
    mixed = graph.node("Transpose", [graph.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
    return graph.linear(graph.reshape(mixed, (0, -1, width)), width, width, f"{prefix}.out")


def _mlp(graph: _Graph, x: str, shape: TowerShape, prefix: str) -> str:
    hidden = graph.linear(x, shape.dimension, shape.mlp, f"{prefix}.fc1")
    hidden = graph.node("Gelu", [hidden], approximate="tanh")
    return graph.linear(hidden, shape.mlp, shape.dimension, f"{prefix}.fc2")


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[np.generic], name: str | None = None) -> str:
        name = name or f"c{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, size: tuple[int, ...], name: str, *, scale: float | None = None) -> str:
        # Fan-in scaling keeps activations near 1, so that different inputs stay different.
        scale = scale if scale is not None else 1.0 / math.sqrt(math.prod(size[1:]) or 1)
        values = self._generator.standard_normal(size, dtype=np.float32)
        values *= np.float32(scale)
        return self.constant(values, name)

    def bias(self, size: int, name: str) -> str:
        return self.weight((size,), name, scale=0.05)

    def linear(self, x: str, wide_in: int, wide_out: int, name: str) -> str:
        weight = self.weight((wide_in, wide_out), f"{name}.weight", scale=wide_in**-0.5)
        product = self.node("MatMul", [x, weight])
        return self.node("Add", [product, self.bias(wide_out, f"{name}.bias")])

    def layer_norm(self, x: str, width: int, name: str) -> str:
        gain = self.constant(
            (1.0 + 0.1 * self._generator.standard_normal(width)).astype(np.float32),
            f"{name}.weight",
        )
        inputs = [x, gain, self.bias(width, f"{name}.bias")]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def reshape(self, x: str, size: tuple[int, ...]) -> str:
        return self.node("Reshape", [x, self.constant(np.array(size, dtype=np.int64))])

    def model(
        self,
        input_name: str,
        input_type: int,
        input_size: list[int | str],
        result: str,
        dimension: int,
    ) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [result], ["pooler_output"]))
        graph = helper.make_graph(
            self._nodes,
            "tower",
            [helper.make_tensor_value_info(input_name, input_type, input_size)],
            [
                helper.make_tensor_value_info(
                    "pooler_output", TensorProto.FLOAT, [input_size[0], dimension]
                )
            ],
            self._weights,
        )
        # IR 9 belongs to opset 20; the newest one would shut older runtimes out.
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9
        )


def _sentences(generator: random.Random) -> Iterator[str]:
    things = ("cat", "dog", "house", "tree", "boat", "bicycle", "star", "moon", "umbrella")
    colours = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")
    places = ("sea", "grass", "snow", "sand", "street", "sky", "table")
    for _ in range(2_000):
        thing, colour, place = map(generator.choice, (things, colours, places))
        yield f"a photo of a {colour} {thing} on the {place} {generator.randrange(1000)}"


def main() -> None:
    """Write the folder that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base-384")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=None, help="fixed batch (default: any)")
    arguments = parser.parse_args()
    print(
        write_random_model(
            arguments.directory,
            shape=arguments.shape,
            seed=arguments.seed,
            batch=arguments.batch,
        )
    )


if __name__ == "__main__":
    main()
