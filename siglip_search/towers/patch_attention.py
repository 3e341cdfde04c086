"""What each patch of a picture brings to its embedding, through the tower's attention-pooling head.

The head gathers the patches' values by their shares, which is a plain sum; how much each patch
brings to it is exact. What follows, a residual network and the scaling to length 1, is not linear,
so that no division of the embedding among the patches is the only right one. Here no such division
is made: a patch is left out, the Softmax is taken over the scores of the others, and their sum and
what follows it are computed once more. The result is exactly the
embedding of a head that does not look at this patch.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.models.onnx_fields import open_fields
from siglip_search.towers.devices import is_compiled
from siglip_search.towers.embedding import OUTPUT_NAMES, embedding_graph
from siglip_search.towers.pooling_head import find_pooling_head, following_graph, further_outputs
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siglip_search.models.onnx_fields import FieldReader
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.embedding import EmbeddingGraph
    from siglip_search.towers.pooling_head import PoolingHead

_TOLERANCE: Final = 5e-3
"""Of the values that the head gathers, against what its parts give: towers in fp16 lose so much."""


@dataclass(frozen=True, slots=True)
class PatchTokens:
    """What the head saw of one picture.

    Attributes:
        scores: Of each patch, shape (heads, patches).
        values: What each patch brings, shape (heads, patches, values a head).
        grid: Rows and columns of patches; they stand row by row.
        covered: Height and width in pixels that the patches cover, from the upper left corner: a
            size that the patch does not divide leaves a rim that the tower never sees.
        embedding: Of the whole picture, a unit vector of shape (dimension,).
    """

    scores: NDArray[np.float64]
    values: NDArray[np.float64]
    grid: tuple[int, int]
    covered: tuple[int, int]
    embedding: NDArray[np.float32]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of each patch, shape (heads, patches), >= 0, of sum 1 in each head."""
        return _softmax(self.scores)


class PatchAttention:
    """A picture tower whose head can be asked again with some patches left out; on the processor.

    Made by `open_patch_attention`. It keeps the tower in memory, as a `VisionTower` does.
    """

    def __init__(
        self, spec: ModelSpec, head: PoolingHead, graph: EmbeddingGraph, *, threads: int | None
    ) -> None:
        self._spec = spec
        self._head = head
        self._graph = graph
        self._threads = threads
        self._following: CpuSession | None = None
        self._sizes: dict[str, NDArray[Any]] = {}
        self._gathered: NDArray[Any] = np.empty(0)

    def look(self, pixels: NDArray[np.uint8]) -> PatchTokens | None:
        """Return what the head sees of a picture.

        Args:
            pixels: What the model's preprocessor returns, shape (height, width, 3).

        Returns:
            The patches; None where the head is not what it looked like: its patches make no grid,
            or its parts do not make what it gathers.

        Raises:
            ModelError: If the tower fails or gives something that is no direction.
        """
        vision = self._spec.vision
        pictures = self._graph.input.shape[0] or 1
        values = normalise(pixels[None], mean=vision.mean, std=vision.std)
        fed = np.repeat(values, pictures, axis=0).astype(self._graph.input.dtype, copy=False)
        head = self._head
        found = dict(
            zip(
                head.outputs,
                self._graph.session.run({self._graph.input.name: fed}, head.outputs),
                strict=True,
            )
        )
        tokens = self._tokens(found, pictures, (pixels.shape[0], pixels.shape[1]))
        if tokens is not None:
            self._sizes = {name: found[name] for name in head.sizes}
            self._gathered = found[head.gathered]
        return tokens

    def embed_without(
        self,
        tokens: PatchTokens,
        left_out: NDArray[np.bool_],
        *,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Return the picture's embedding as the head makes it without some patches.

        Args:
            tokens: What `look` returned last.
            left_out: One row for each embedding, shape (n, patches); no row leaves out all.
            on_done: Called with the number of rows that are done.

        Returns:
            Unit vectors, shape (n, dimension).

        Raises:
            ModelError: If the tower fails or gives something that is no direction.
        """
        # From the scores: where one patch has all of a share, the others' are rounded to nothing.
        shares = _softmax(np.where(left_out[:, None, :], -np.inf, tokens.scores))
        gathered = np.einsum("nhp,hpv->nhv", shares, tokens.values)
        rows = self._graph.input.shape[0] or 1
        embeddings = np.empty((len(gathered), self._graph.dimension), dtype=np.float32)
        session = self._open_following()
        for start in range(0, len(gathered), rows):
            some = gathered[start : start + rows]
            filled = np.concatenate([some, np.repeat(some[-1:], rows - len(some), axis=0)])
            result = session.run(
                {
                    **self._sizes,
                    self._head.gathered: filled.reshape(self._gathered.shape).astype(
                        self._gathered.dtype
                    ),
                },
                [self._head.embedding],
            )[0]
            embeddings[start : start + len(some)] = result.reshape(rows, -1)[: len(some)]
            on_done(start + len(some))
        return self._graph.unit(embeddings)

    def _tokens(
        self, found: dict[str, NDArray[Any]], pictures: int, size: tuple[int, int]
    ) -> PatchTokens | None:
        head = self._head
        scores, values, gathered = (
            found[name] for name in (head.scores, head.values, head.gathered)
        )
        if scores.ndim not in (3, 4) or scores.shape[-2] != 1 or values.ndim != scores.ndim:
            return None
        patches, width = values.shape[-2:]
        if scores.shape[-1] != patches or gathered.size * patches != values.size:
            return None
        # Leading axes hold pictures, then heads, whether in one axis or two.
        every = scores.astype(np.float64).reshape(pictures, -1, patches)
        brought = values.astype(np.float64).reshape(pictures, -1, patches, width)
        sums = np.einsum("nhp,nhpv->nhv", _softmax(every), brought)
        scale = max(float(np.abs(brought).max()), 1e-30)
        difference = np.abs(sums - gathered.reshape(sums.shape)).max() / scale
        side = _patch_side(patches, size)
        if side is None or not difference <= _TOLERANCE:
            return None
        rows, columns = (length // side for length in size)
        embedding = found[head.embedding].reshape(pictures, -1)[:1].astype(np.float32)
        return PatchTokens(
            scores=every[0],
            values=brought[0],
            grid=(rows, columns),
            covered=(rows * side, columns * side),
            embedding=self._graph.unit(embedding)[0],
        )

    def _open_following(self) -> CpuSession:
        if self._following is None:
            fed = {**self._sizes, self._head.gathered: self._gathered}
            with open_fields(self._graph.path) as reader:
                content = following_graph(reader, self._head, fed)
            self._following = CpuSession(self._graph.path, threads=self._threads, content=content)
        return self._following


def open_patch_attention(spec: ModelSpec, *, threads: int | None = None) -> PatchAttention | None:
    """Open a model's picture tower so that its pooling head shows what it sees.

    Args:
        spec: The model.
        threads: Threads that one call uses; None for every processor.

    Returns:
        The tower; None where its graph shows no such head plainly, or no processor runs it.

    Raises:
        ModelError: If the tower cannot be loaded or contradicts the model's facts.
    """
    path = spec.vision_path
    if is_compiled(path):
        return None
    try:
        with open_fields(path) as reader:
            head = _find_head(reader)
        if head is None:
            return None
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file,
            memoryview(file) as own,
        ):
            # The outputs that the file has stay the first.
            content = b"".join((own, further_outputs(head.outputs[1:])))
    except (OSError, ValueError):
        # Unreadable here only means that no head is shown: the runtime says what is wrong.
        return None
    session = CpuSession(path, threads=threads, content=content)
    del content  # as large as the file
    graph = embedding_graph(
        session,
        path=path,
        dimension=spec.dimension,
        input_names=("pixel_values", "image"),
        input_shape=(3, *spec.vision.image_size),
    )
    if graph.output.name != head.embedding:
        return None
    return PatchAttention(spec, head, graph, threads=threads)


def _find_head(reader: FieldReader) -> PoolingHead | None:
    for name in OUTPUT_NAMES:
        head = find_pooling_head(reader, name)
        if head is not None:
            return head
    return None


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares of sum 1 over the last axis; minus infinity has none."""
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
    return shares


def _patch_side(patches: int, size: tuple[int, int]) -> int | None:
    """Return the side of so many square patches in pixels, None where they make no grid.

    What no patch covers is less than one on each side, as a convolution without padding leaves it.
    """
    height, width = size
    for side in range(min(size), 0, -1):
        if (height // side) * (width // side) == patches:
            return side
    return None
