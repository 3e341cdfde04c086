"""Models of one checkpoint side by side: how fast each is, and how well the variants agree."""

from __future__ import annotations

import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.engine.agreement import Figures, measure_agreement
from siglip_search.engine.picture_sample import decoded_pictures
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import ModelError
from siglip_search.models.model_folder import sha256_of
from siglip_search.models.spec import space_key_of
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits

_TIMED_RUNS: Final = 5
_TIMED_SECONDS: Final = 2.0
"""About how long all cores are kept busy per model, unless one round of pictures takes longer."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model costs on this machine, now.

    Attributes:
        pictures_per_second_one_thread: The picture tower, one picture after the other.
        pictures_per_second_all_cores: The same with one picture in each core, as indexing does it.
        cores: How many.
        text_ms: One query, tower open, all cores; median.
        load_ms: Opening tokenizer and text tower for one query and embedding it, files in memory.
        disk_bytes: Size of the model's files.
    """

    pictures_per_second_one_thread: float
    pictures_per_second_all_cores: float
    cores: int
    text_ms: float
    load_ms: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model in a comparison.

    Attributes:
        spec: The model.
        speed: What it costs.
        figures: How it agrees with the reference; None for the reference itself, and where there
            were no pictures.
    """

    spec: ModelSpec
    speed: Speed
    figures: Figures | None


@dataclass(frozen=True, slots=True)
class Lineup:
    """Models to be compared with one another.

    Attributes:
        reference: In full precision; a variant, alone, whose reference is not on this machine.
        variants: Made from it.
    """

    reference: ModelSpec
    variants: tuple[ModelSpec, ...]


def line_up(named: Sequence[ModelSpec], installed: Sequence[ModelSpec]) -> list[Lineup]:
    """Return what to compare when these models were named.

    A variant is compared with its reference, a model in full precision with its variants.

    Args:
        named: As the user named them.
        installed: Every model on this machine.

    Raises:
        ModelError: A named variant is of another checkpoint than its reference.
    """
    by_name = {spec.name: spec for spec in installed}
    lineups: dict[str, Lineup] = {}
    for spec in dict.fromkeys(named):
        if spec.variant is None:
            variants = [other for other in installed if _is_variant_of(other, spec)]
            lineups[spec.name] = Lineup(spec, tuple(variants))
            continue
        reference = by_name.get(spec.variant.of)
        if reference is None:
            lineups[spec.name] = Lineup(spec, ())
            continue
        refuse_other_checkpoint(spec, reference)
        others = lineups[reference.name].variants if reference.name in lineups else ()
        if spec not in others:
            lineups[reference.name] = Lineup(reference, (*others, spec))
    return list(lineups.values())


def refuse_other_checkpoint(variant: ModelSpec, reference: ModelSpec) -> None:
    """Raise unless the variant differs from the reference in its towers only.

    Raises:
        ModelError: Weights, preprocessing or tokenizer are others, or the reference is a variant
            itself.
    """
    if reference.variant is not None:
        raise ModelError(
            f"{variant.name} cannot be compared with {reference.name}, which was made from "
            f"{reference.variant.of} itself",
            hint=f"Make it again: siglip-search model quantize {reference.variant.of} "
            f"--precision {variant.vision.precision}",
        )
    if _space_without_variant(variant) != reference.space_key:
        raise ModelError(
            f"{variant.name} was not made from the installed {reference.name}: weights, "
            "preprocessing or tokenizer are others",
            hint=f"Make it again: siglip-search model quantize {reference.name} "
            f"--precision {variant.vision.precision} --replace",
        )


def compare_models(
    reference: ModelSpec,
    variants: Sequence[ModelSpec],
    paths: Sequence[bytes],
    *,
    pictures: int,
    cores: int,
    limits: DecodeLimits,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[ComparedModel]:
    """Embed the same pictures and queries with every model, and time them.

    The reference's vectors are made anew although the library holds some: those may have been
    made by a variant that shares the space, which would then be compared with itself.

    Args:
        reference: The model in full precision; a variant alone, without one, may stand here.
        variants: Made from it; none for speed alone.
        paths: Pictures in the order in which they are taken; may be empty.
        pictures: Most pictures to compare, >= 1.
        cores: Pictures embedded at the same time, >= 1.
        limits: What decoding one picture may cost.
        on_progress: Called with the number of pictures embedded so far.

    Returns:
        The reference first, then the variants in their order.

    Raises:
        ModelError: A variant is of another checkpoint, or a tower fails.
        WorkerError: The decoding processes cannot be started.
    """
    for variant in variants:
        refuse_other_checkpoint(variant, reference)
    specs = (reference, *variants)
    # One thread each, as indexing opens them: several callers share one tower.
    towers = [VisionTower(spec, threads=1) for spec in specs]
    pixels: list[NDArray[np.uint8]] = []
    vectors = [np.empty((0, reference.dimension), np.float32) for _ in specs]
    with ThreadPoolExecutor(cores, thread_name_prefix="embed") as threads:
        try:
            if variants and paths:
                vectors, pixels = _embed_pictures(
                    towers, paths, pictures, cores, threads, limits, on_progress
                )
            rates = _picture_rates(towers, pixels or [_grey(reference)], cores, threads)
        except BaseException:
            # Nobody waits for what stands in the queue, least of all after Ctrl-C.
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    texts = [_embed_texts(spec) for spec in specs]
    compared = []
    for index, spec in enumerate(specs):
        text_vectors, text_ms, load_ms = texts[index]
        figures = None
        if index and len(vectors[0]):
            figures = measure_agreement(
                reference_pictures=vectors[0],
                variant_pictures=vectors[index],
                reference_texts=texts[0][0],
                variant_texts=text_vectors,
            )
        one, all_cores = rates[index]
        speed = Speed(one, all_cores, cores, text_ms, load_ms, disk_bytes(spec))
        compared.append(ComparedModel(spec, speed, figures))
    return compared


def disk_bytes(spec: ModelSpec) -> int:
    """Return the size of a model's files."""
    return sum((spec.directory / name).stat().st_size for name in spec.files)


def _is_variant_of(spec: ModelSpec, reference: ModelSpec) -> bool:
    return (
        spec.variant is not None
        and spec.variant.of == reference.name
        and _space_without_variant(spec) == reference.space_key
    )


def _space_without_variant(spec: ModelSpec) -> str:
    """Return the key of the space that a variant shares once it has been shown to agree."""
    return space_key_of(
        checkpoint=spec.checkpoint,
        dimension=spec.dimension,
        preprocessing=spec.preprocessing,
        vision=spec.vision,
        text=spec.text,
        tokenizer_sha256=sha256_of(spec.tokenizer_path),
    )


def _embed_pictures(
    towers: Sequence[VisionTower],
    paths: Sequence[bytes],
    number: int,
    cores: int,
    threads: ThreadPoolExecutor,
    limits: DecodeLimits,
    on_progress: Callable[[int], None],
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.uint8]]]:
    """Return the embeddings (pictures, dimension) of each tower, and some pictures to time with."""
    waiting: deque[list[Future[NDArray[np.float32]]]] = deque()
    done: list[list[NDArray[np.float32]]] = []
    kept: list[NDArray[np.uint8]] = []

    def collect() -> None:
        done.append([future.result()[0] for future in waiting.popleft()])
        on_progress(len(done))

    with decoded_pictures(
        paths, number, towers[0].preprocessor, workers=cores, limits=limits
    ) as decoded:
        for pixels in decoded:
            if len(kept) < _TIMED_RUNS:
                kept.append(pixels)
            # One picture a call: the activations of a batch are quantised together, and indexing
            # embeds one picture a call too.
            waiting.append([threads.submit(tower.embed, pixels) for tower in towers])
            if len(waiting) > 2 * cores:
                collect()
    while waiting:
        collect()
    if not done:
        return [np.empty((0, 0), np.float32) for _ in towers], kept
    return [np.stack(rows) for rows in zip(*done, strict=True)], kept


def _picture_rates(
    towers: Sequence[VisionTower],
    pixels: Sequence[NDArray[np.uint8]],
    cores: int,
    threads: ThreadPoolExecutor,
) -> list[tuple[float, float]]:
    """Return pictures per second of each tower, with one thread and with all cores."""
    seconds: list[list[float]] = [[] for _ in towers]
    for run in range(_TIMED_RUNS + 1):
        # In turns: what else the machine does then falls on all of them alike.
        for tower, taken in zip(towers, seconds, strict=True):
            started = time.perf_counter()
            tower.embed(pixels[run % len(pixels)])
            taken.append(time.perf_counter() - started)
    rates = []
    for tower, taken in zip(towers, seconds, strict=True):
        one = statistics.median(taken[1:])  # the first run allocates and is not typical
        number = cores * max(1, min(50, round(_TIMED_SECONDS / one)))
        started = time.perf_counter()
        list(threads.map(tower.embed, (pixels[i % len(pixels)] for i in range(number))))
        rates.append((1.0 / one, number / (time.perf_counter() - started)))
    return rates


def _embed_texts(spec: ModelSpec) -> tuple[NDArray[np.float32], float, float]:
    """Return the queries' embeddings, the milliseconds for one, and those for opening the tower."""
    opened = []
    for _ in range(2):  # the first may wait for the disk, or for a library's import
        started = time.perf_counter()
        TextTower(spec, one_shot=True).embed(PHRASES[:1])
        opened.append(time.perf_counter() - started)
    tower = TextTower(spec)
    tower.embed(PHRASES[:1])
    vectors, seconds = [], []
    for phrase in PHRASES:  # one a call, as queries come
        started = time.perf_counter()
        vectors.append(tower.embed([phrase])[0])
        seconds.append(time.perf_counter() - started)
    return np.stack(vectors), 1e3 * statistics.median(seconds), 1e3 * min(opened)


def _grey(spec: ModelSpec) -> NDArray[np.uint8]:
    height, width = spec.vision.image_size
    return np.full((1, height, width, 3), 128, np.uint8)
