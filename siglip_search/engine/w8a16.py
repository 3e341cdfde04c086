"""Towers for an NPU out of an installed model: quantised, measured, and mended once if need be."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.engine.agreement import has_random_weights, measure_agreement
from siglip_search.engine.calibration_record import write_calibration_record
from siglip_search.engine.picture_sample import decoded_pictures
from siglip_search.engine.precision import (
    TEXT_FILE,
    VISION_FILE,
    copy_tokenizer,
    refuse_unsuitable,
    try_out,
    variant_facts,
)
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.files import install_folder, staging_folder, storage_error
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import MIN_MEAN_COSINE, MIN_RECALL_AT_10, MODEL_FILE
from siglip_search.towers.devices import refuse_missing_device
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.engine.agreement import Figures
    from siglip_search.export.layer_sensitivity import LayerLoss
    from siglip_search.export.quantization_data import Samples
    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.towers.session import Device

_log = logging.getLogger(__name__)

PICTURE_SAMPLES: Final = 64
"""Pictures that the ranges of activations are measured on, at most. Demonstration model, mean and
least cosine on 60 others: 0.9998, 0.9981 from 8 pictures; 0.9999, 0.9995 from 16; 0.9999, 0.9997
from 32; 0.9999, 0.9998 from 60."""

LEAST_SAMPLES: Final = 16

_LOOKED_INTO: Final = 8
"""Samples that the layers are compared on: each is run with every value kept."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How quantised towers agreed with their originals.

    Attributes:
        figures: On pictures that were not used for quantising.
        picture_device: Where the quantised picture tower ran: "npu" or "npu-emulator"; "cpu" is a
            simulation, the processor computing in fp32 on rounded numbers.
        text_device: Likewise for the text tower.
    """

    figures: Figures
    picture_device: str
    text_device: str

    @property
    def is_simulation(self) -> bool:
        """Whether any of it was computed otherwise than an NPU does."""
        return "cpu" in {self.picture_device, self.text_device}

    @property
    def is_good_enough(self) -> bool:
        """Whether the cosine and the recall are, however many pictures there were."""
        agreement = self.figures.agreement
        return (
            agreement.mean_cosine >= MIN_MEAN_COSINE and agreement.recall_at_10 >= MIN_RECALL_AT_10
        )


@dataclass(frozen=True, slots=True)
class MadeW8A16:
    """A variant for an NPU that was just made.

    Attributes:
        spec: The installed model.
        samples: Pictures that it was quantised with.
        picture_cosine: Least cosine to the reference over a few made-up pictures, simulated.
        text_cosine: Likewise over a few queries.
        measured: Of what was installed; None if nothing was to be measured.
        other_try: Of the try that was not installed; None if there was only one.
        float_nodes: Nodes of both towers that stayed in floating point in what was installed.
        losses: Of the first try, by tower ("picture", "text"), the worst layers first; empty if it
            was good enough.
    """

    spec: ModelSpec
    samples: int
    picture_cosine: float
    text_cosine: float
    measured: Measured | None
    other_try: Measured | None
    float_nodes: tuple[str, ...]
    losses: dict[str, list[LayerLoss]]


@dataclass(frozen=True, slots=True)
class _Try:
    """Towers in a folder of their own that may become the model."""

    spec: ModelSpec
    quantized: dict[str, Any]
    measured: Measured | None
    float_nodes: tuple[str, ...]


def make_w8a16(
    reference: ModelSpec,
    models_dir: Path,
    paths: Sequence[bytes],
    *,
    pictures: int,
    cores: int,
    limits: DecodeLimits,
    device: Device = "auto",
    replace_old: bool = False,
    on_begin: Callable[[], None] = lambda: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> MadeW8A16:
    """Make and install the model `NAME-w8a16` from the installed model `NAME`.

    It is quantised with some of the pictures and measured on others. If it does not agree well
    enough, the layers that lose most stay in floating point in a second and last try, and the
    better of the two is installed. After a failure or a crash it is there whole or not at all.

    Args:
        reference: The model in full precision.
        models_dir: Folder with one folder per model; made if need be.
        paths: Pictures of the user's, in the order in which they are taken.
        pictures: Most pictures to measure on; 0 measures nothing.
        cores: Pictures decoded and embedded at the same time, >= 1.
        limits: What decoding one picture may cost.
        device: Where the new towers are measured; without an NPU, "auto" simulates.
        replace_old: Take the place of a variant that is there already.
        on_begin: Called once everything that can be refused at once has been looked at.
        on_progress: Called with the number of pictures embedded so far, in each try.

    Raises:
        ModelError: There are too few pictures, a tower cannot be quantised or run, the name is
            taken, or the disk is full.
        DeviceError: The device cannot be used.
        WorkerError: The decoding processes cannot be started.
    """
    from siglip_search.export.onnx_weights import import_onnx

    name = refuse_unsuitable(reference, "w8a16", models_dir, replace_old=replace_old)
    import_onnx()  # this and the device before minutes of work
    refuse_missing_device(device)
    pixels = _decoded(reference, paths, pictures, cores=cores, limits=limits)
    number = min(PICTURE_SAMPLES, max(len(pixels) - pictures, len(pixels) // 2))
    if number < LEAST_SAMPLES:
        raise ModelError(
            "w8a16 is made with pictures of your own, at least "
            f"{LEAST_SAMPLES + min(pictures, LEAST_SAMPLES)}, and there are {len(pixels)}",
            hint="Name a folder that has more: --data FOLDER; or index some first.",
        )
    on_begin()
    maker = _Maker(reference, name, pixels[:number])
    gate = None
    if pictures:
        gate = _Gate(
            reference,
            pixels[number : number + pictures],
            cores=cores,
            device=device,
            on_progress=on_progress,
        )
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with (
            staging_folder(models_dir, name) as first_folder,
            staging_folder(models_dir, name) as second_folder,
        ):
            first = maker.make(first_folder, gate)
            second, losses = None, {}
            if (
                gate is not None
                and not has_random_weights(reference)
                and not _is_good_enough(first)
            ):
                losses = maker.losses(first)
                try:
                    second = maker.make_again(second_folder, gate, losses)
                except (DeviceError, ModelError) as error:
                    # A chip that does not compute floating-point layers, say: the first stands.
                    _log.warning("the second try failed: %s", error)
            better, other = (first, second) if second is None else _better_first(first, second)
            cosines = try_out(reference, better.spec)
            return MadeW8A16(
                spec=install_folder(better.spec.directory, models_dir, name),
                samples=number,
                picture_cosine=cosines[0],
                text_cosine=cosines[1],
                measured=better.measured,
                other_try=None if other is None else other.measured,
                float_nodes=better.float_nodes,
                losses=losses,
            )
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be made", error) from error


def _decoded(
    reference: ModelSpec,
    paths: Sequence[bytes],
    pictures: int,
    *,
    cores: int,
    limits: DecodeLimits,
) -> list[NDArray[np.uint8]]:
    """Return the pixels of different pictures, in one pass: so none is a copy of another."""
    if not paths:
        return []
    preprocessor = VisionTower(reference).preprocessor
    with decoded_pictures(
        paths, PICTURE_SAMPLES + pictures, preprocessor, workers=cores, limits=limits
    ) as decoded:
        return list(decoded)


def _is_good_enough(attempt: _Try) -> bool:
    return attempt.measured is not None and attempt.measured.is_good_enough


def _better_first(first: _Try, second: _Try) -> tuple[_Try, _Try]:
    def goodness(attempt: _Try) -> tuple[bool, float]:
        assert attempt.measured is not None
        measured = attempt.measured
        return measured.is_good_enough, measured.figures.agreement.mean_cosine

    return (second, first) if goodness(second) > goodness(first) else (first, second)


class _Maker:
    """Writes quantised towers of one model, each time with other exceptions."""

    def __init__(
        self, reference: ModelSpec, name: str, pixels: Sequence[NDArray[np.uint8]]
    ) -> None:
        from siglip_search.export.quantization_data import caption_samples, picture_samples
        from siglip_search.export.static_shapes import static_picture_tower, static_text_tower

        self._reference = reference
        self._name = name
        self._pixels = pixels
        self._static = {
            "picture": static_picture_tower(reference),
            "text": static_text_tower(reference),
        }
        self._samples: dict[str, Samples] = {
            "picture": picture_samples(reference, pixels, self._static["picture"]),
            "text": caption_samples(reference, self._static["text"]),
        }

    def make(
        self, folder: Path, gate: _Gate | None, float_nodes: dict[str, set[str]] | None = None
    ) -> _Try:
        """Fill a folder with a model and measure it."""
        from siglip_search.export.quantize_w8a16 import quantize_w8a16, recipe, write_w8a16

        excepted = float_nodes or {"picture": set(), "text": set()}
        sources = {"picture": self._reference.vision_path, "text": self._reference.text_path}
        quantized = {
            tower: quantize_w8a16(
                self._static[tower],
                self._samples[tower],
                source=sources[tower],
                float_nodes=excepted[tower],
            )
            for tower in ("picture", "text")
        }
        names = tuple(sorted(f"{tower} {node}" for tower in excepted for node in excepted[tower]))
        facts = variant_facts(
            self._reference,
            name=self._name,
            precision="w8a16",
            recipe=recipe(self._samples["picture"], self._samples["text"], names),
            vision_data=write_w8a16(quantized["picture"], folder / VISION_FILE),
            text_data=write_w8a16(quantized["text"], folder / TEXT_FILE),
        )
        copy_tokenizer(self._reference, folder)
        write_calibration_record(folder, self._pixels)
        (folder / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")
        spec = load_model_folder(folder)
        return _Try(spec, quantized, None if gate is None else gate.measure(spec), names)

    def losses(self, attempt: _Try) -> dict[str, list[LayerLoss]]:
        """Return what the layers of each tower lose, the worst first."""
        from siglip_search.export.layer_sensitivity import layer_losses

        return {
            tower: layer_losses(
                self._static[tower], quantized, self._samples[tower].first(_LOOKED_INTO)
            )
            for tower, quantized in attempt.quantized.items()
        }

    def make_again(
        self, folder: Path, gate: _Gate, losses: dict[str, list[LayerLoss]]
    ) -> _Try | None:
        """Make it with the worst layers in floating point; None if no layer stands out."""
        from siglip_search.export.layer_sensitivity import nodes_to_leave_in_float

        chosen = {
            tower: nodes_to_leave_in_float(self._static[tower], losses[tower]) for tower in losses
        }
        return self.make(folder, gate, chosen) if any(chosen.values()) else None


class _Gate:
    """Compares towers with the reference's, whose vectors are made once."""

    def __init__(
        self,
        reference: ModelSpec,
        pixels: Sequence[NDArray[np.uint8]],
        *,
        cores: int,
        device: Device,
        on_progress: Callable[[int], None],
    ) -> None:
        self._pixels = pixels
        self._cores = cores
        self._device = device
        self._on_progress = on_progress
        self._pictures = self._embedded(VisionTower(reference))
        self._texts = _phrases(TextTower(reference))

    def measure(self, variant: ModelSpec) -> Measured:
        """Embed the held-out pictures and the queries, and compare."""
        vision = VisionTower(variant, device=self._device)
        pictures = self._embedded(vision, self._on_progress)
        text = TextTower(variant, device=self._device)
        figures = measure_agreement(
            reference_pictures=self._pictures,
            variant_pictures=pictures,
            reference_texts=self._texts,
            variant_texts=_phrases(text),
        )
        return Measured(figures, vision.device, text.device)

    def _embedded(
        self, tower: VisionTower, on_progress: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        vectors = []
        with ThreadPoolExecutor(self._cores, thread_name_prefix="embed") as threads:
            try:
                for vector in threads.map(tower.embed, self._pixels):
                    vectors.append(vector[0])
                    on_progress(len(vectors))
            except BaseException:
                # Nobody waits for what stands in the queue, least of all after Ctrl-C.
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return np.stack(vectors)


def _phrases(tower: TextTower) -> NDArray[np.float32]:
    # One a call, as queries come.
    return np.concatenate([tower.embed([phrase]) for phrase in PHRASES])
