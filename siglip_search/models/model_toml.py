"""A model's facts as the text of `model.toml`: the one writer for everything that makes a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_search.models.spec import Agreement, ModelFacts, TextSpec, VariantSpec, VisionSpec

FORMAT: Final = 1
"""Newest layout of `model.toml` that this version reads, and the one that it writes."""

PREPROCESSING_RULES: Final = 1
"""Version of the rules in `towers/preprocess.py`: part of every embedding space."""


def model_toml(facts: ModelFacts) -> str:
    """Return the text from which `load_model_folder` reads the same facts."""
    sections = [
        _section(
            None,
            format=FORMAT,
            name=facts.name,
            title=facts.title,
            licence=facts.licence,
            languages=facts.languages,
            notice=facts.notice,
            dimension=facts.dimension,
            checkpoint=facts.checkpoint,
            preprocessing=facts.preprocessing,
        ),
        _vision(facts.vision),
        _text(facts.text),
        _section(
            "score",
            logit_scale=facts.score.logit_scale,
            logit_bias=facts.score.logit_bias,
            min_probability=facts.score.min_probability,
        ),
    ]
    if facts.variant is not None:
        sections += _variant(facts.variant)
    return "\n".join(sections)


def _vision(vision: VisionSpec) -> str:
    return _section(
        "vision",
        file=vision.file,
        data_files=vision.data_files or None,
        precision=vision.precision,
        image_size=vision.image_size,
        resize=vision.resize,
        resample=vision.resample,
        mean=vision.mean,
        std=vision.std,
    )


def _text(text: TextSpec) -> str:
    return _section(
        "text",
        file=text.file,
        data_files=text.data_files or None,
        precision=text.precision,
        tokenizer=text.tokenizer,
        tokenizer_file=text.tokenizer_file,
        canonicalize=text.canonicalize,
        length=text.length,
        pad_id=text.pad_id,
        end_id=text.end_id,
        start_id=text.start_id,
    )


def _variant(variant: VariantSpec) -> Iterable[str]:
    yield _section("variant", of=variant.of, recipe=variant.recipe)
    if variant.agreement is not None:
        yield _agreement(variant.agreement)


def _agreement(agreement: Agreement) -> str:
    return _section(
        "variant.agreement",
        pictures=agreement.pictures,
        mean_cosine=agreement.mean_cosine,
        worst_cosine=agreement.worst_cosine,
        recall_at_10=agreement.recall_at_10,
    )


def _section(heading: str | None, **values: object) -> str:
    lines = [f"[{heading}]"] if heading else []
    # A JSON text, number or flat list is the same thing in TOML, once DEL is escaped too.
    lines += [
        f"{key} = {json.dumps(value, ensure_ascii=False).replace(chr(127), chr(92) + 'u007f')}"
        for key, value in values.items()
        if value is not None
    ]
    return "\n".join(lines) + "\n"
