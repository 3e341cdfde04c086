"""Which parts of a picture make its score: by its attention-pooling head, or by hiding them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from siglip_search.engine.substitutes import substitutes_on_cpu
from siglip_search.errors import ModelError, UnreadablePictureError
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.search.attribution import Windows
from siglip_search.towers.occlusion import occluded
from siglip_search.towers.patch_attention import open_patch_attention
from siglip_search.towers.preprocess import Preprocessor
from siglip_search.towers.session_cpu import available_processors
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import PreparedPicture
    from siglip_search.towers.patch_attention import PatchAttention
    from siglip_search.towers.session import Device

PatchMethod = Literal["auto", "attention", "occlusion"]
"""How the parts of a picture are tried: the first of the others that works, through the head, or by
hiding them."""

_OCCLUSION_WINDOWS: Final = (
    Windows((8, 8), (3, 3)),
    Windows((6, 6), (2, 2)),
    Windows((4, 4), (2, 2)),
)
"""The finest first, 36, 25 and 9 windows: those that the time allows are taken."""

_WINDOWS_ACROSS: Final = 4
"""A window of patch tokens is as wide and high as the grid divided by this, rounded."""

_PICTURES_AT_ONCE: Final = 8
"""So many hidden versions of a picture are in memory together."""

_OVERTIME: Final = 2.0
"""A machine that became so many times slower than it was at first stops the work on a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchMap:
    """What the parts of a picture do to its score.

    Attributes:
        method: "attention": exactly what the score loses when the attention-pooling head leaves
            out the tokens of a window; "occlusion": exactly what it loses when the window is
            blurred in the picture.
        windows: What was left out, one after the other, on which grid.
        differences: For each cell of the grid the mean over the windows that cover it, shape
            `windows.grid`; above 0 where the cell raises the score.
        score: Of the whole picture, as the tower gave it now.
        region: Left, top, right and bottom of the grid, as shares of the upright picture.
        model: Name of the model whose tower was asked: where the model's own shows no head, one of
            the same embedding space may.
        device: Where it ran.
    """

    method: Literal["attention", "occlusion"]
    windows: Windows
    differences: NDArray[np.float64]
    score: float
    region: tuple[float, float, float, float]
    model: str
    device: str


class PatchMaps:
    """Makes maps with one model; its towers and a decoding process are kept until `close`.

    Args:
        spec: The model.
        method: How the parts are tried.
        max_seconds: See `attribution.ExplainOptions`.
        limits: What decoding a picture may cost.
        device: Where pictures are embedded that have parts hidden.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        method: PatchMethod,
        max_seconds: float,
        limits: DecodeLimits,
        device: Device,
    ) -> None:
        self._spec = spec
        self._method = method
        self._max_seconds = max_seconds
        self._device = device
        vision = spec.vision
        self._preprocessor = Preprocessor(vision.image_size, vision.resize, vision.resample)
        self._pool = DecodePool(
            self._preprocessor,
            workers=1,
            limits=limits,
            min_side=self._preprocessor.min_side_px,
        )
        self._attention: tuple[ModelSpec, PatchAttention] | None = None
        self._has_looked_for_attention = False
        self._tower: VisionTower | None = None

    def close(self) -> None:
        """End the decoding process."""
        self._pool.close(cancel=True)

    def decoded(
        self, paths: Sequence[str], content_hashes: Collection[bytes]
    ) -> tuple[str, PreparedPicture]:
        """Return the first of a picture's files that still holds it, and the picture.

        Args:
            paths: Absolute, as os.fsdecode gives them.
            content_hashes: SHA-256 of what the library knows the picture by.

        Raises:
            UnreadablePictureError: None does; str() is the reason.
            WorkerError: The decoding process cannot be started.
        """
        problem = UnreadablePictureError("the file is gone")
        for path in paths:
            try:
                prepared = self._pool.decode(os.fsencode(path)).result()
            except FileNotFoundError:
                continue
            except UnreadablePictureError as error:
                problem = error
                continue
            if prepared.content_hash in content_hashes:
                return path, prepared
            problem = UnreadablePictureError("the file has changed since it was indexed")
        raise problem

    def map(
        self,
        prepared: PreparedPicture,
        score: Callable[[NDArray[Any]], float],
        on_progress: Callable[[float], None],
    ) -> PatchMap | None:
        """Return the map of a picture, None where the machine became too slow for it.

        Args:
            prepared: The picture.
            score: Of a unit vector, shape (dimension,).
            on_progress: Called with the share that is done.

        Raises:
            ModelError: A tower cannot be loaded or fails, or shows no head that was asked for.
            DeviceError: The device was asked for by name and cannot be used, or fails.
        """
        seen = self._preprocessor.seen((prepared.facts.width, prepared.facts.height))
        if self._method != "occlusion":
            found = self._by_attention(prepared.pixels, seen, score, on_progress)
            if found is not None:
                return found
            if self._method == "attention":
                raise ModelError(
                    f"the picture tower of {self._spec.name} shows no attention-pooling head",
                    hint="--explain-by occlusion works with every tower.",
                )
        return self._by_occlusion(prepared.pixels, seen, score, on_progress)

    def _by_attention(
        self,
        pixels: NDArray[np.uint8],
        seen: tuple[float, float, float, float],
        score: Callable[[NDArray[Any]], float],
        on_progress: Callable[[float], None],
    ) -> PatchMap | None:
        if not self._has_looked_for_attention:
            self._attention = self._open_attention()
            self._has_looked_for_attention = True
        if self._attention is None:
            return None
        spec, head = self._attention
        tokens = head.look(pixels)
        if tokens is None:
            return None
        rows, columns = tokens.grid
        span = (max(1, round(rows / _WINDOWS_ACROSS)), max(1, round(columns / _WINDOWS_ACROSS)))
        windows = Windows(tokens.grid, span)
        without = head.embed_without(
            tokens, windows.masks(), on_done=lambda done: on_progress(done / len(windows))
        )
        whole = score(tokens.embedding)
        left, top, right, bottom = seen
        height, width = pixels.shape[:2]
        return PatchMap(
            method="attention",
            windows=windows,
            differences=windows.cell_means(np.array([whole - score(one) for one in without])),
            score=whole,
            region=(
                left,
                top,
                left + (right - left) * tokens.covered[1] / width,
                top + (bottom - top) * tokens.covered[0] / height,
            ),
            model=spec.name,
            device="cpu",
        )

    def _open_attention(self) -> tuple[ModelSpec, PatchAttention] | None:
        for model in substitutes_on_cpu(self._spec):
            head = open_patch_attention(model)
            if head is not None:
                return model, head
        return None

    def _by_occlusion(
        self,
        pixels: NDArray[np.uint8],
        seen: tuple[float, float, float, float],
        score: Callable[[NDArray[Any]], float],
        on_progress: Callable[[float], None],
    ) -> PatchMap | None:
        tower = self._vision_tower()
        tower.embed(pixels[None])  # a device may need a while before its first picture only
        began = time.monotonic()
        whole = score(tower.embed(pixels[None])[0])
        each = time.monotonic() - began
        windows = next(
            (some for some in _OCCLUSION_WINDOWS if len(some) * each <= self._max_seconds),
            _OCCLUSION_WINDOWS[-1],
        )
        latest = began + _OVERTIME * max(self._max_seconds, len(windows) * each)
        differences: list[float] = []
        for hidden in occluded(
            pixels, windows.grid, windows.places, pictures_at_once=_PICTURES_AT_ONCE
        ):
            differences += (whole - score(vector) for vector in tower.embed(hidden))
            on_progress(len(differences) / len(windows))
            if time.monotonic() > latest and len(differences) < len(windows):
                return None
        return PatchMap(
            method="occlusion",
            windows=windows,
            differences=windows.cell_means(np.array(differences)),
            score=whole,
            region=seen,
            model=self._spec.name,
            device=tower.device,
        )

    def _vision_tower(self) -> VisionTower:
        if self._tower is None:
            self._tower = VisionTower(
                self._spec,
                # One caller with all of them: nothing else runs meanwhile.
                threads=available_processors(),
                device=self._device,
                substitutes=partial(substitutes_on_cpu, self._spec),
            )
        return self._tower
