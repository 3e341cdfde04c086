"""Variants beside the model that they were made from: who is compared, and do they agree?"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from siglip_search.engine.agreement import Figures, measure_agreement
from siglip_search.engine.calibration_record import picture_digest
from siglip_search.engine.picture_sample import decoded_pictures
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import ModelError
from siglip_search.models.model_folder import sha256_of
from siglip_search.models.spec import space_key_of
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.towers.session import Device


@dataclass(frozen=True, slots=True)
class Contender:
    """A model on a device.

    Attributes:
        spec: The model.
        device: Where both its towers run.
    """

    spec: ModelSpec
    device: Device


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
    contenders: Sequence[Contender],
    paths: Sequence[bytes],
    *,
    pictures: int,
    cores: int,
    limits: DecodeLimits,
    held_out: Collection[str] = (),
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Figures]:
    """Embed the same pictures and queries with every contender, and with the reference.

    The reference runs on the processor, in full precision; on another device it is a contender
    itself. Its vectors are made anew although the library holds some: those may have been made by a
    variant that shares the space, which would then be compared with itself.

    Args:
        reference: The model in full precision.
        contenders: Its variants, or itself elsewhere; at least one.
        paths: Pictures in the order in which they are taken; may be empty.
        pictures: Most pictures to compare, >= 1.
        cores: Pictures embedded at the same time, >= 1.
        limits: What decoding one picture may cost.
        held_out: Digests (`picture_digest`) of pictures to pass over.
        on_progress: Called with the number of pictures embedded so far.

    Returns:
        How each contender agrees with the reference, in their order; none if there are no pictures.

    Raises:
        ModelError: A variant is of another checkpoint, or a tower fails.
        DeviceError: A device cannot be used.
        WorkerError: The decoding processes cannot be started.
    """
    for contender in contenders:
        if contender.spec != reference:
            refuse_other_checkpoint(contender.spec, reference)
    if not paths:
        return []
    everyone = (Contender(reference, "cpu"), *contenders)
    # One thread each, as indexing opens them: several callers share one tower.
    towers = [VisionTower(each.spec, threads=1, device=each.device) for each in everyone]
    with ThreadPoolExecutor(cores, thread_name_prefix="embed") as threads:
        try:
            vectors = _embed_pictures(
                towers, paths, pictures, cores, threads, limits, held_out, on_progress
            )
        except BaseException:
            # Nobody waits for what stands in the queue, least of all after Ctrl-C.
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    if not vectors:
        return []
    texts = [_embed_phrases(each) for each in everyone]
    return [
        measure_agreement(
            reference_pictures=vectors[0],
            variant_pictures=vectors[index],
            reference_texts=texts[0],
            variant_texts=texts[index],
        )
        for index in range(1, len(everyone))
    ]


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
    held_out: Collection[str],
    on_progress: Callable[[int], None],
) -> list[NDArray[np.float32]]:
    """Return the embeddings (pictures, dimension) of each tower; none if no picture can be read."""
    waiting: deque[list[Future[NDArray[np.float32]]]] = deque()
    done: list[list[NDArray[np.float32]]] = []

    def collect() -> None:
        done.append([future.result()[0] for future in waiting.popleft()])
        on_progress(len(done))

    with decoded_pictures(
        paths, number + len(held_out), towers[0].preprocessor, workers=cores, limits=limits
    ) as decoded:
        fresh = (pixels for pixels in decoded if picture_digest(pixels) not in held_out)
        for pixels in islice(fresh, number):
            # One picture a call: the activations of a batch are quantised together, and indexing
            # embeds one picture a call too.
            waiting.append([threads.submit(tower.embed, pixels) for tower in towers])
            if len(waiting) > 2 * cores:
                collect()
    while waiting:
        collect()
    return [np.stack(rows) for rows in zip(*done, strict=True)]


def _embed_phrases(contender: Contender) -> NDArray[np.float32]:
    tower = TextTower(contender.spec, device=contender.device)
    # One a call, as queries come.
    return np.concatenate([tower.embed([phrase]) for phrase in PHRASES])
