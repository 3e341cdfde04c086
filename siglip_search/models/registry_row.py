"""What is known about a model by name: one row of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siglip_search.models.spec import Canonicalization, Precision, Resize, TokenizerKind

Library = Literal["transformers", "open_clip"]


@dataclass(frozen=True, slots=True)
class TowerFiles:
    """Exported towers of one precision in their repository.

    Attributes:
        vision: Picture tower.
        text: Text tower.
        vision_data: Files that hold the picture tower's external weights, in its folder.
        text_data: Files that hold the text tower's external weights, in its folder.
    """

    vision: str
    text: str
    vision_data: tuple[str, ...] = ()
    text_data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Architecture:
    """Who defines the network: what `model export` builds and the parity table compares with.

    Attributes:
        library: "transformers" or "open_clip".
        name: The class in Transformers, or the configuration's name in open_clip.
    """

    library: Library
    name: str


@dataclass(frozen=True, slots=True)
class Published:
    """Figures that the model's authors or its reference library published, in percent.

    Attributes:
        source: Where they were found.
        imagenet_top_1: Zero-shot accuracy.
        coco_text_to_image_r1: Recall at 1 on COCO's 5,000 test pictures, text to image.
        coco_image_to_text_r1: The other way.
        flickr_text_to_image_r1: Recall at 1 on Flickr30k's 1,000 test pictures, text to image.
        flickr_image_to_text_r1: The other way.
    """

    source: str
    imagenet_top_1: float | None = None
    coco_text_to_image_r1: float | None = None
    coco_image_to_text_r1: float | None = None
    flickr_text_to_image_r1: float | None = None
    flickr_image_to_text_r1: float | None = None


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a model's files lie on the hub and the facts that they do not state themselves.

    Attributes:
        checkpoint_repo: Repository of the trained weights.
        weights_file: safetensors file in it, which holds `logit_scale` and `logit_bias`; or an
            ONNX file of both towers together, which holds them too.
        preprocessor_file: JSON file in it with size, resampling filter, mean and deviation: one
            of the kinds that `preprocessing_files` reads.
        architecture: The network that the weights belong to.
        onnx_repo: Repository of the exported towers; None where nobody publishes them.
        towers: The exported towers in it by precision; empty where nobody publishes them.
        tokenizer_repo: Repository of the tokenizer.
        tokenizer_file: Tokenizer in it.
        tokenizer_sha256: Its content, where it is known.
        image_size: Height and width in pixels; the preprocessor file must agree.
        resize: How a picture is brought to that size.
        tokenizer: Kind of the tokenizer.
        canonicalize: What is done to the words first.
        length: Number of ids per text.
        pad_id: Padding.
        end_id: End of the text.
        start_id: Start of the text; None for a model without one.
        min_probability: Default cut; in [0, 1).
    """

    checkpoint_repo: str
    weights_file: str
    preprocessor_file: str
    architecture: Architecture
    onnx_repo: str | None
    towers: Mapping[Precision, TowerFiles]
    tokenizer_repo: str
    tokenizer_file: str
    tokenizer_sha256: str | None
    image_size: tuple[int, int]
    resize: Resize
    tokenizer: TokenizerKind
    canonicalize: Canonicalization
    length: int
    pad_id: int
    end_id: int
    start_id: int | None
    min_probability: float


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """One known model.

    Attributes:
        name: What the user types.
        title: One line for people.
        licence: SPDX expression or a short name.
        licence_url: Text of the licence.
        licence_conditions: What the user must accept before anything is fetched; None where the
            licence asks for nothing.
        languages: Language codes, or "multilingual".
        help: When to take it, one sentence.
        bundled: It comes with the program; nothing is fetched.
        dimension: Length of an embedding; None for a bundled model, whose folder says it.
        parameters_millions: Of both towers together; None where it is not known.
        download_bytes: About how much `pull` fetches in fp32; None where it is not known or where
            there is nothing to pull.
        sources: Where the facts of the row were found.
        published: Published accuracy, where there is any.
        hub: Where the files lie; None for a bundled model.
    """

    name: str
    title: str
    licence: str
    licence_url: str | None
    licence_conditions: str | None
    languages: tuple[str, ...]
    help: str
    bundled: bool
    dimension: int | None
    parameters_millions: int | None
    download_bytes: int | None
    sources: tuple[str, ...]
    published: Published | None
    hub: HubSource | None
