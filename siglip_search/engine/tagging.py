"""Tags: which labels of a vocabulary fit which pictures, kept in the library.

Pictures are compared by their stored vectors; none is opened. The choice of labels is remembered,
so that pictures that come later are tagged at the end of the run that brings them.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from siglip_search.engine.calibrations import background_sample, calibration_for
from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.engine.label_vectors import forget_label_vectors, label_vectors
from siglip_search.errors import DeviceError, ModelError, QueryError
from siglip_search.ingest.report import Progress
from siglip_search.search.background import MIN_PICTURES
from siglip_search.search.tag_scores import (
    LabelScale,
    ModelScale,
    calibrated_scales,
    fitting_labels,
)
from siglip_search.search.vocabulary import Vocabulary, default_vocabulary

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.calibration import Calibration
    from siglip_search.towers.session import Device

RECORD_KIND: Final = "vocabulary"
"""Of the library's records: what pictures are tagged with."""

_RECORD_KEY: Final = "tags"

Scale = Literal["calibrated", "model"]
"""Which probability is cut and kept: the calibrated one, or the model's own."""

MIN_CALIBRATED: Final = 0.9
"""The usual cut of calibrated probabilities, where the calibration's own is not higher.

A question asks for one thing that somebody expects to find; a vocabulary asks every picture for
hundreds that it does not show, so that a rate of errors that is small there is large here.
"""

# 4,096 vectors of 768 numbers are 12 MiB, and their products with 2,000 labels 31 MiB.
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class TagChoice:
    """With what pictures are tagged.

    Attributes:
        vocabulary: The labels.
        scale: Which probability is cut; None for the calibrated one where there is a calibration,
            else the model's own.
        min_probability: The cut, in (0, 1]; None for the usual one of that scale.
    """

    vocabulary: Vocabulary
    scale: Scale | None = None
    min_probability: float | None = None

    def to_json(self) -> str:
        """Return it as one JSON object on one line."""
        return json.dumps(
            {
                "vocabulary": json.loads(self.vocabulary.to_json()),
                "scale": self.scale,
                "min_probability": self.min_probability,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote.

        Raises:
            ValueError: It is no such object, or a newer one.
        """
        value = json.loads(text)
        try:
            vocabulary = Vocabulary.from_json(json.dumps(value["vocabulary"]))
            scale, cut = value["scale"], value["min_probability"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a part is missing: {error}") from error
        if scale not in (None, "calibrated", "model") or not (
            cut is None or (isinstance(cut, int | float) and 0 < cut <= 1)
        ):
            raise ValueError(f"no scale or cut: {scale!r}, {cut!r}")
        return cls(vocabulary, scale, None if cut is None else float(cut))


@dataclass(frozen=True, slots=True)
class TagCut:
    """From which probability on a label is a tag.

    Attributes:
        scale: Which probability.
        min_probability: In (0, 1].
        calibration: What calibrates it; None for the model's own.
    """

    scale: Scale
    min_probability: float
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class TaggingReport:
    """What a run of `tag` did.

    Attributes:
        choice: With what.
        cut: From which probability on.
        pictures: How many were compared with the labels now.
        tagged: How many of them have got a tag.
        tags: How many tags these have.
        left: How many were not compared, because the run was stopped.
        seconds: Wall-clock time.
    """

    choice: TagChoice
    cut: TagCut
    pictures: int
    tagged: int
    tags: int
    left: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TagSummary:
    """What tags a library has.

    Attributes:
        counts: How many visible pictures have each label, most first.
        choice: With what pictures are tagged; None where nobody has chosen that.
        cut: From which probability on; None without a choice, or where it does not work with the
            model that answers.
        untagged: How many visible pictures were not compared with these labels and that cut; None
            without a cut.
    """

    counts: dict[str, int]
    choice: TagChoice | None
    cut: TagCut | None
    untagged: int | None


def default_choice() -> TagChoice:
    """Return the labels that come with the program, with the usual cut."""
    return TagChoice(default_vocabulary(DEFAULT_TEMPLATES))


def chosen_tags(store: Store) -> TagChoice | None:
    """Return with what a library's pictures are tagged; None where nobody has chosen that.

    A choice that a newer version of the program wrote counts as none.
    """
    value = store.records(RECORD_KIND).get(_RECORD_KEY)
    if value is None:
        return None
    try:
        return TagChoice.from_json(value)
    except ValueError:
        return None


def cut_of(choice: TagChoice, spec: ModelSpec, store: Store) -> TagCut:
    """Return from which probability on a label is a tag, in a library that a model answers.

    Raises:
        QueryError: Calibrated probabilities were chosen and the model's scores are not calibrated,
            or its own were and it states none.
        ModelError: The calibration that came with the model cannot be understood.
    """
    calibration = None if choice.scale == "model" else calibration_for(spec, store)
    if calibration is not None:
        cut = choice.min_probability or max(calibration.cut, MIN_CALIBRATED)
        return TagCut("calibrated", cut, calibration)
    if choice.scale == "calibrated":
        raise QueryError(
            f"the scores of the model {spec.name!r} are not calibrated in this library",
            hint="`siglip-search calibrate` does that; --min-probability takes the model's own.",
        )
    if spec.score.logit_bias is None:
        raise QueryError(
            f"the model {spec.name!r} states no probabilities, so no label can be said to fit",
            hint="`siglip-search calibrate` makes some; or choose another model for this library.",
        )
    return TagCut("model", choice.min_probability or spec.score.min_probability, None)


def tag_pictures(
    store: Store,
    spec: ModelSpec,
    choice: TagChoice,
    *,
    stop: threading.Event,
    again: bool = False,
    among: Collection[int] | None = None,
    device: Device = "cpu",
    embed_labels: bool = True,
    on_labels: Callable[[int, int], None] = lambda _done, _total: None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TaggingReport:
    """Compare pictures with the labels and keep which fit; a block is committed at a time.

    Args:
        store: Opened for writing.
        spec: The model of the space that searches use.
        choice: With what; it is remembered.
        stop: When set, no further block is begun.
        again: Compare also pictures that were compared with these labels already.
        among: Only these photos; None for all.
        device: Where the text tower runs if it is compiled for an NPU.
        embed_labels: Open the text tower for labels that it has not embedded yet; otherwise no
            picture is compared as long as there are some.
        on_labels: Called with the number of labels embedded, and of all that have to be.
        on_progress: Called with the number of pictures done, and of all.

    Raises:
        QueryError: As in `cut_of`.
        ModelError, DeviceError: The text tower cannot be opened or fails.
        StoreError: The library cannot be written; what was committed stays.
    """
    started = time.monotonic()
    cut = cut_of(choice, spec, store)
    digest = _digest(choice, cut, spec, store)
    value = choice.to_json()
    if store.records(RECORD_KIND).get(_RECORD_KEY) != value:
        with store.write() as writer:
            writer.put_record(RECORD_KIND, _RECORD_KEY, value)
    # Under a name that no vocabulary has nothing was looked at. Former tags hold until replaced.
    photos = sorted(store.photos_untagged(spec.space_key, "" if again else digest, among))
    pictures = tagged = tags = 0
    if photos:
        prototypes = label_vectors(
            store,
            spec,
            choice.vocabulary,
            stop=stop,
            device=device,
            embed_missing=embed_labels,
            on_progress=on_labels,
        )
        scales = () if prototypes is None else _scales(prototypes, cut, spec, store)
        if prototypes is not None:
            on_progress(0, len(photos))
        for start in range(0, len(photos), _BLOCK):
            if prototypes is None or stop.is_set():
                break
            block = photos[start : start + _BLOCK]
            found = fitting_labels(
                store.vectors(spec.space_key, block),
                prototypes,
                choice.vocabulary.labels,
                scales,
                cut.min_probability,
            )
            with store.write() as writer:
                writer.put_tags(spec.space_key, digest, zip(block, found, strict=True))
            pictures += len(block)
            tagged += sum(1 for labels in found if labels)
            tags += sum(map(len, found))
            on_progress(pictures, len(photos))
    left, seconds = len(photos) - pictures, time.monotonic() - started
    return TaggingReport(choice, cut, pictures, tagged, tags, left, seconds)


def tag_new(
    store: Store,
    spec: ModelSpec,
    *,
    stop: threading.Event,
    among: Collection[int] | None = None,
    device: Device = "cpu",
    embed_labels: bool = True,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
) -> int:
    """Tag the pictures that have come, at the end of the run that has brought them.

    Where no labels were chosen this is one small query; where nothing is new, a few.

    Args:
        store: Opened for writing.
        spec: A model; it is passed over if another one answers now.
        stop: When set, pictures stay untagged until the next run.
        among: Only these photos, and it costs no more than they do; None for all.
        device: Where the text tower runs if it is compiled for an NPU.
        embed_labels: See `tag_pictures`.
        on_progress: Called with the labels embedded, and then with the pictures compared.
        on_warning: Called with one line where pictures cannot be tagged: they are in the library
            all the same, and the run was none the worse for it.

    Returns:
        How many pictures were compared with the labels.

    Raises:
        StoreError: The library cannot be written; what was committed stays.
    """
    if stop.is_set() or (among is not None and not among):
        return 0
    choice, active = chosen_tags(store), store.active_space()
    if choice is None or active is None or active.key != spec.space_key:
        return 0

    def tell(done: int, total: int) -> None:
        on_progress(Progress(done, total))

    try:
        return tag_pictures(
            store,
            spec,
            choice,
            stop=stop,
            among=among,
            device=device,
            embed_labels=embed_labels,
            on_labels=tell,
            on_progress=tell,
        ).pictures
    except (QueryError, ModelError, DeviceError) as error:
        on_warning(f"new pictures are not tagged: {error}. {error.hint}")
        return 0


def tag_summary(store: Store, space_key: str, spec: ModelSpec | None) -> TagSummary:
    """Return what tags a space of a library has.

    Args:
        store: The library.
        space_key: The space.
        spec: Its model, None where it is not installed.
    """
    counts, choice = store.tag_counts(space_key), chosen_tags(store)
    if choice is None or spec is None:
        return TagSummary(counts, choice, None, None)
    try:
        cut = cut_of(choice, spec, store)
    except (QueryError, ModelError):
        return TagSummary(counts, choice, None, None)
    digest = _digest(choice, cut, spec, store)
    return TagSummary(counts, choice, cut, len(store.photos_untagged(space_key, digest)))


def clear_tags(store: Store) -> None:
    """Delete all tags, of all spaces, and the choice of labels: new pictures get none."""
    spaces = store.spaces()
    with store.write() as writer:
        for space in spaces:
            writer.clear_tags(space.key)
        writer.put_record(RECORD_KIND, _RECORD_KEY, None)
        forget_label_vectors(store, writer)


def _scales(
    prototypes: NDArray[np.float32], cut: TagCut, spec: ModelSpec, store: Store
) -> Sequence[LabelScale]:
    if cut.calibration is not None:
        sample = background_sample(store, spec.space_key)
        return calibrated_scales(prototypes, cut.calibration, sample)
    assert spec.score.logit_bias is not None
    return [ModelScale(spec.score.logit_scale, spec.score.logit_bias)] * len(prototypes)


def _digest(choice: TagChoice, cut: TagCut, spec: ModelSpec, store: Store) -> str:
    """Return what tells one way of tagging from another: pictures are compared anew with another.

    The background, which changes a little with every picture, is none of it, but for whether there
    are pictures enough for one.
    """
    background = None
    if cut.calibration is not None:
        few = store.sample_ids(spec.space_key, MIN_PICTURES)
        background = [cut.calibration.to_json(), len(few) >= MIN_PICTURES]
    parts = [
        choice.vocabulary.labels,
        choice.vocabulary.templates,
        cut.scale,
        cut.min_probability,
        background,
    ]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:32]
