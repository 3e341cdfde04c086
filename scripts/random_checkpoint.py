"""Write checkpoints with random weights as the libraries write them, and open them as they do.

What `model export` makes is compared with the libraries that defined the models. Their published
weights are not needed for that: an export is right or wrong for any weights, and random ones show
more, for every weight matters. Whoever compares has to see to four things, which this does:

- normalisations and layer scales start as identities: they are moved away from that;
- fresh picture towers of open_clip give nearly the same embedding for every picture: MobileCLIP2's
  running statistics are set by pictures first, the others' matrices are drawn as their authors do;
- fresh text towers attend to everything alike, and most of a text is padding: their queries and
  keys are made larger;
- at the bias that training starts from every probability is 0: it is set where they lie on both
  sides of one half.

Needs the extra `reference`. What such a model ranks means nothing.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_search.export.reference_libraries import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.registry_row import HubSource, RegistryRow

LOGIT_SCALE = 100.0
_SHARPER = 1.75
OPEN_CLIP_CONFIG = "open_clip_config.json"
_FILTERS = {"bilinear": 2, "bicubic": 3}  # PIL.Image.Resampling

_SO400M = {"hidden_size": 1152, "intermediate_size": 4304} | {
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
SIGLIP_SHAPES: dict[str, dict[str, Any]] = {
    "siglip-base-patch16-384": {"vocabulary": 32_000, "patch": 16, "encoder": {}},
    "siglip-base-patch16-224": {"vocabulary": 32_000, "patch": 16, "encoder": {}},
    "siglip2-base-patch16-384": {"vocabulary": 256_000, "patch": 16, "encoder": {}},
    "siglip-so400m-patch14-384": {"vocabulary": 32_000, "patch": 14, "encoder": _SO400M},
    "siglip2-so400m-patch14-384": {"vocabulary": 256_000, "patch": 14, "encoder": _SO400M},
}
"""What the row of a Transformers model does not say about its shape; {}: the class's defaults."""


@dataclass(frozen=True)
class Reference:
    """A checkpoint, opened by the library that defined it.

    Attributes:
        model: `SiglipModel`, or open_clip's `CustomTextCLIP`, in evaluation mode.
        library: "transformers" or "open_clip".
    """

    model: Any
    library: str

    def pictures(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension), of pixel values."""
        return self._unit("get_image_features", "encode_image", values)

    def texts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension), of ids."""
        return self._unit("get_text_features", "encode_text", ids)

    def logits(self, values: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return scale * cosine + bias as the model computes it, shape (pictures, texts)."""
        import torch

        pixels, tokens = torch.from_numpy(values), torch.from_numpy(ids)
        with torch.inference_mode():
            if self.library == "open_clip":
                return self.model.get_logits(pixels, tokens)[0].numpy()
            return self.model(input_ids=tokens, pixel_values=pixels).logits_per_image.numpy()

    def _unit(self, transformers: str, open_clip: str, values: Any) -> NDArray[np.float32]:
        import torch

        name = open_clip if self.library == "open_clip" else transformers
        with torch.inference_mode():
            found = getattr(self.model, name)(torch.from_numpy(values))
            embeddings = getattr(found, "pooler_output", found)
            return torch.nn.functional.normalize(embeddings, dim=-1).numpy()


def open_reference(row: RegistryRow, folder: Path) -> Reference:
    """Open a checkpoint's folder with its library's own loader."""
    with quiet():
        if row.hub.architecture.library == "transformers":
            import transformers

            model = getattr(transformers, row.hub.architecture.name).from_pretrained(folder)
        else:
            import open_clip

            model = open_clip.create_model(f"local-dir:{folder}")
    return Reference(model.eval(), row.hub.architecture.library)


def write_siglip(
    row: RegistryRow,
    folder: Path,
    *,
    seed: int,
    vocabulary: int,
    patch: int,
    encoder: Mapping[str, int],
    tokenizer: bytes,
) -> None:
    """Write a folder as Transformers saves a SigLIP model and its processor.

    Args:
        row: The model; sizes of picture and text are its.
        folder: Made if need be.
        seed: Of the weights.
        vocabulary: Rows of the token table.
        patch: Side of a patch in pixels.
        encoder: Further sizes of both towers, by their names in the configuration.
        tokenizer: Content of the tokenizer file.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = dict(encoder)
    text = {"vocab_size": vocabulary, "max_position_embeddings": row.hub.length}
    vision = {"image_size": row.hub.image_size[0], "patch_size": patch}
    with quiet():
        config = transformers.SiglipConfig(
            text_config={**sizes, **text}, vision_config={**sizes, **vision}
        )
        model = transformers.SiglipModel(config).eval()
    _leave_identity(model)
    _place_logits(Reference(model, "transformers"), row.hub, vocabulary)
    with quiet():
        model.save_pretrained(folder)
    height, width = row.hub.image_size
    processor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": _FILTERS["bilinear" if row.name.startswith("siglip2") else "bicubic"],
        "rescale_factor": 1 / 255,
        "size": {"height": height, "width": width},
    }
    (folder / row.hub.preprocessor_file).write_text(json.dumps(processor), encoding="utf-8")
    (folder / row.hub.tokenizer_file).write_bytes(tokenizer)


def write_open_clip(
    row: RegistryRow, folder: Path, *, seed: int, tokenizer: bytes | None = None
) -> None:
    """Write a folder as open_clip saves a model.

    Args:
        row: The model; its architecture is the name of a configuration.
        folder: Made if need be.
        seed: Of the weights.
        tokenizer: Content of the tokenizer file; None for the one that open_clip brings along.
    """
    import open_clip
    import torch
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    name = row.hub.architecture.name
    sigmoid = "init_logit_bias" in open_clip.get_model_config(name)
    preprocess = (
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
        if sigmoid
        else {"interpolation": "bilinear"}
    )
    preprocess["resize_mode"] = "squash" if row.hub.resize == "squash" else "shortest"
    with quiet():
        model = open_clip.create_model(name, load_weights=False, force_preprocess_cfg=preprocess)
    model.eval()
    _leave_identity(model)
    if not _set_running_statistics(model.visual, row.hub.image_size):
        _spread(model.visual)
    vocabulary = model.text.token_embedding.num_embeddings
    _place_logits(Reference(model, "open_clip"), row.hub, vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / OPEN_CLIP_CONFIG, open_clip.get_model_config(name))
    if tokenizer is not None:
        (folder / row.hub.tokenizer_file).write_bytes(tokenizer)


def random_pictures(count: int, image_size: tuple[int, int], *, seed: int) -> NDArray[np.uint8]:
    """Return pictures of coarse to fine coloured blocks, shape (count, height, width, 3)."""
    generator = np.random.default_rng(seed)
    height, width = image_size
    pictures = []
    for number in range(count):
        block = max(1, height // (2, 5, 16, 48)[number % 4])
        shape = (height // block + 1, width // block + 1, 3)
        coarse = generator.integers(0, 256, shape, dtype=np.uint8)
        pictures.append(coarse.repeat(block, axis=0).repeat(block, axis=1)[:height, :width])
    return np.stack(pictures)


def random_ids(count: int, source: HubSource, vocabulary: int, *, seed: int) -> NDArray[np.int64]:
    """Return texts over the whole vocabulary, shape (count, length); the last one fills it."""
    generator = np.random.default_rng(seed)
    ids = np.full((count, source.length), source.pad_id, dtype=np.int64)
    opening = [] if source.start_id is None else [source.start_id]
    room = source.length - len(opening) - 1
    # CLIP's towers pool at the highest id, which is the end's.
    highest = vocabulary if source.start_id is None else source.start_id
    for number, row in enumerate(ids, start=1):
        words = room if number == count else int(generator.integers(1, room))
        text = [*opening, *generator.integers(2, highest, words), source.end_id]
        row[: len(text)] = text
    return ids


@contextmanager
def other_gelu(model: Any) -> Iterator[None]:
    """Plant a mistake: every GELU is exact where it was approximate, and the other way round."""
    import torch

    exchanged = []
    for parent in model.modules():
        for name, child in parent.named_children():
            kind = type(child).__name__
            if kind in {"GELU", "GELUTanh"}:
                approximate = kind == "GELUTanh" or getattr(child, "approximate", "none") == "tanh"
                exchanged.append((parent, name, child))
                setattr(parent, name, torch.nn.GELU("none" if approximate else "tanh"))
    assert exchanged, "the model has no GELU that could be exchanged"
    try:
        yield
    finally:
        for parent, name, child in exchanged:
            setattr(parent, name, child)


@contextmanager
def other_epsilon(model: Any) -> Iterator[None]:
    """Plant a mistake: LayerNorm's epsilon is 1e-5 where it was 1e-6, and the other way round."""
    import torch

    changed = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert changed, "the model has no LayerNorm"
    before = [module.eps for module in changed]
    for module in changed:
        module.eps = 1e-5 if module.eps < 5e-6 else 1e-6
    try:
        yield
    finally:
        for module, epsilon in zip(changed, before, strict=True):
            module.eps = epsilon


def _leave_identity(model: Any) -> None:
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("logit_"):
                continue
            if name.endswith(".gamma"):
                weight.uniform_(0.1, 0.3)
            elif name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(_SHARPER)
            elif name.endswith("in_proj_weight"):
                weight[: 2 * len(weight) // 3].mul_(_SHARPER)  # queries and keys, then values
            elif weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.05)


def _spread(visual: Any) -> None:
    """Draw the matrices of a vision transformer as big_vision does (Xavier), not as timm (0.02)."""
    import torch

    for module in visual.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)


def _set_running_statistics(visual: Any, image_size: tuple[int, int]) -> bool:
    """Set the statistics of batch normalisations; return whether there are any."""
    import torch

    norms = [module for module in visual.modules() if hasattr(module, "running_mean")]
    if not norms:
        return False
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # what the last batch says, and nothing of what was there
    visual.train()
    with torch.no_grad():
        visual(torch.from_numpy(_values(random_pictures(8, image_size, seed=7))))
    visual.eval()
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return True


def _place_logits(reference: Reference, source: HubSource, vocabulary: int) -> None:
    """Set the scale, and the bias so that half of all pairs match."""
    import torch

    model = reference.model
    pictures = reference.pictures(_values(random_pictures(4, source.image_size, seed=5)))
    texts = reference.texts(random_ids(4, source, vocabulary, seed=5))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(LOGIT_SCALE))
        if model.logit_bias is not None:
            model.logit_bias.fill_(-LOGIT_SCALE * float(np.median(pictures @ texts.T)))


def _values(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1
