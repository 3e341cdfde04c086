"""A vector index on FAISS: exact inner products of half-precision vectors. FAISS lives only here.

What FAISS leaves to its caller is done here (measured with faiss-cpu 1.15): it crashes when it is
searched while vectors are added, aborts when a view is changed, accepts an id twice, answers NaN
with -1 and a wrong dimension with a bare AssertionError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from siglip_index.errors import InvalidVectorError
from siglip_index.shared_lock import SharedLock

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from numpy.typing import NDArray

# The published stubs leave out much of what is used here.
faiss: Any = _faiss

# A bit for each number up to the greatest id, which the store gives one after another; no more
# than 64 MiB of bits.
_MAX_BITMAP_ID = 2**29
_FIRST_RANGE_K = 2048
_IO_BLOCK_BYTES = 4 * 2**20
_MAX_THREADS: int = faiss.omp_get_max_threads()


class FaissIndex:
    """Vectors of one dimension under int64 ids; implements `VectorIndex`.

    Safe to use from several threads: changes wait for searches and the other way round.

    Args:
        dimension: Length of the vectors, > 0.
    """

    def __init__(self, dimension: int) -> None:
        flat = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._index: Any = faiss.IndexIDMap2(flat)
        self._lock = SharedLock()
        self._sorted_ids: NDArray[np.int64] | None = None
        self._mask: NDArray[np.bool_] | None = None
        self._buffer: mmap.mmap | None = None

    @classmethod
    def view(cls, buffer: mmap.mmap, dimension: int) -> FaissIndex:
        """Return an index over the bytes of a file that `write_to` wrote, without copying them.

        The first change copies them into memory. Only files of our own may be opened: FAISS
        does not survive every damaged one.

        Raises:
            ValueError: The bytes are no such index, or one of another dimension.
        """
        index = cls(dimension)
        # Not FAISS's own mapping: it announces random access, so that the first search of a
        # file that is not cached reads it page by page (3.3 s instead of 0.2 s at 100,000 x 768).
        content = np.frombuffer(buffer, dtype=np.uint8)
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.size)
        try:
            index._index = faiss.read_index(reader)
        except RuntimeError as error:
            raise ValueError(f"FAISS cannot read it: {error}") from error
        index._buffer = buffer
        index._check_kind(dimension)
        return index

    def _check_kind(self, dimension: int) -> None:
        flat = faiss.downcast_index(getattr(self._index, "index", None))
        if not (
            isinstance(self._index, faiss.IndexIDMap2)
            and isinstance(flat, faiss.IndexScalarQuantizer)
            and flat.sq.qtype == faiss.ScalarQuantizer.QT_fp16
            and flat.metric_type == faiss.METRIC_INNER_PRODUCT
        ):
            raise ValueError("it is a FAISS index of another kind")
        if self._index.d != dimension:
            raise ValueError(f"it has dimension {self._index.d}, not {dimension}")
        if flat.ntotal != self._index.id_map.size() or flat.ntotal != self._index.ntotal:
            raise ValueError("its counts disagree")

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def ids(self) -> NDArray[np.int64]:
        """Return all ids, ascending."""
        with self._lock.shared():
            return self._ids().copy()

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of these ids, shape (n, dimension).

        Raises:
            LookupError: An id is not there.
        """
        with self._lock.shared():
            if not self._contains(ids).all():
                raise LookupError("an id is not in the index")
            return self._fetch(ids)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `VectorIndex.add`."""
        ids, vectors = self._checked_ids(ids), self._checked(vectors)
        if len(ids) != len(vectors):
            raise InvalidVectorError(f"{len(ids)} ids were given for {len(vectors)} vectors")
        with self._lock.alone():
            if self._contains(ids).any():
                raise InvalidVectorError("an id is in the index already")
            self._add(ids, vectors)

    def remove(self, ids: NDArray[np.int64]) -> int:
        """See `VectorIndex.remove`."""
        with self._lock.alone():
            return self._remove(np.asarray(ids, dtype=np.int64))

    def apply(
        self,
        removed: NDArray[np.int64],
        ids: NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> None:
        """Remove ids, then add or replace others, in one step that no search sees half done.

        Args:
            removed: Ids to remove; those that are not there do not matter.
            ids: Ids to add, shape (n,); those that are there get the new vector.
            vectors: Shape (n, dimension).

        Raises:
            InvalidVectorError: See `add`; nothing is changed then.
        """
        ids, vectors = self._checked_ids(ids), self._checked(vectors)
        if len(ids) != len(vectors):
            raise InvalidVectorError(f"{len(ids)} ids were given for {len(vectors)} vectors")
        with self._lock.alone():
            self._remove(np.concatenate([np.asarray(removed, dtype=np.int64), ids]))
            self._add(ids, vectors)

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        only: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `VectorIndex.search`."""
        queries = self._checked(vectors)
        if k < 1:
            raise ValueError(f"k is {k}, it must be at least 1")
        with self._lock.shared():
            count, parameters = self._reachable(only)
            k = min(k, count)
            if k == 0 or len(queries) == 0:
                shape = (len(queries), k)
                return np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
            return self._scan(queries, k, parameters)

    def range_search(
        self,
        vector: NDArray[np.float32],
        min_product: float,
        only: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `VectorIndex.range_search`."""
        query = self._checked(vector[np.newaxis])
        # FAISS's own range search is four times slower here than a search for the best k; that
        # one costs little more for a large k.
        with self._lock.shared():
            count, parameters = self._reachable(only)
            ids, products = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
            for k in sorted({min(_FIRST_RANGE_K, count), count} - {0}):
                (ids,), (products,) = self._scan(query, k, parameters)
                if products[-1] < min_product:
                    break
        wanted = products.astype(np.float64) >= min_product
        return ids[wanted], products[wanted]

    def _scan(
        self, queries: NDArray[np.float32], k: int, parameters: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        # FAISS shares work out by query. For a single one a second thread only costs: 41 ms
        # instead of 6 ms at 100,000 x 768 on two busy cores.
        faiss.omp_set_num_threads(1 if len(queries) == 1 else _MAX_THREADS)
        products, ids = self._index.search(queries, k, params=parameters)
        return ids, products

    def write_to(self, write: Callable[[bytes], object]) -> None:
        """Write the index in FAISS's own format.

        Args:
            write: Called with one piece after another.

        Raises:
            OSError: What `write` raised.
        """
        failure: OSError | None = None

        def write_block(block: bytes) -> None:
            nonlocal failure
            try:
                write(block)
            except OSError as error:
                failure = error
                raise

        # Through Python and not by name: FAISS reports a full disk only as a RuntimeError, or
        # not at all when the last block fails, and cannot open every name on Windows.
        with self._lock.shared():
            try:
                writer = faiss.PyCallbackIOWriter(write_block, _IO_BLOCK_BYTES)
                faiss.write_index(self._index, writer)
                # Its destructor writes the last block.
                del writer
            except (RuntimeError, OSError):
                if failure is None:
                    raise
        if failure is not None:
            raise failure

    def _own_memory(self) -> None:
        """Copy a view into memory: FAISS aborts the process when a view is changed."""
        if self._buffer is None:
            return
        self._buffer.seek(0)
        reader = faiss.PyCallbackIOReader(self._buffer.read, _IO_BLOCK_BYTES)
        self._index = faiss.read_index(reader)
        self._buffer = None

    def _add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if len(ids) == 0:
            return
        self._own_memory()
        self._index.add_with_ids(vectors, ids)
        self._sorted_ids = self._mask = None

    def _remove(self, ids: NDArray[np.int64]) -> int:
        if not self._contains(ids).any():
            return 0
        self._own_memory()
        self._sorted_ids = self._mask = None
        return int(self._index.remove_ids(ids))

    def _ids(self) -> NDArray[np.int64]:
        ids = self._sorted_ids
        if ids is None:
            ids = np.sort(faiss.vector_to_array(self._index.id_map))
            self._sorted_ids = ids
        return ids

    def _contains(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        known = self._ids()
        if len(known) == 0:
            return np.zeros(len(ids), dtype=np.bool_)
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        found: NDArray[np.bool_] = known[places] == ids
        return found

    def _reachable(self, only: NDArray[np.int64] | None) -> tuple[int, Any]:
        """Return how many vectors a search may return, and what tells FAISS which."""
        if only is None:
            return len(self), None
        wanted = np.asarray(only, dtype=np.int64)
        known = self._ids()
        if len(known) and known[0] >= 0 and known[-1] <= _MAX_BITMAP_ID:
            mask = np.zeros(int(known[-1]) + 1, dtype=np.bool_)
            mask[wanted[(wanted >= 0) & (wanted < len(mask))]] = True
            mask &= self._known_mask()
            bits = np.packbits(mask, bitorder="little")
            # For half of 500,000 x 768 it takes 45 ms instead of the 69 ms of a hash table; for a
            # few 1.3 ms, where fetching 5,000 vectors to multiply them here takes 19 ms.
            return int(np.count_nonzero(mask)), _selecting(faiss.IDSelectorBitmap(bits))
        wanted = np.unique(wanted)
        wanted = wanted[self._contains(wanted)]
        return len(wanted), _selecting(faiss.IDSelectorBatch(wanted))

    def _known_mask(self) -> NDArray[np.bool_]:
        """Return for each number up to the greatest id whether it is one."""
        mask = self._mask
        if mask is None:
            known = self._ids()
            mask = np.zeros(int(known[-1]) + 1, dtype=np.bool_)
            mask[known] = True
            self._mask = mask
        return mask

    def _fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(ids) == 0:
            return np.empty((0, self.dimension), dtype=np.float32)
        fetched: NDArray[np.float32] = self._index.reconstruct_batch(np.ascontiguousarray(ids))
        return fetched

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise InvalidVectorError(
                f"vectors have shape {vectors.shape}, the index has dimension {self.dimension}"
            )
        if not np.isfinite(vectors).all():
            raise InvalidVectorError("a vector is not finite")
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _checked_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.ndim != 1 or len(np.unique(ids)) != len(ids):
            raise InvalidVectorError("ids must stand once each, in one dimension")
        return np.ascontiguousarray(ids, dtype=np.int64)


def _selecting(selector: Any) -> Any:
    return faiss.SearchParameters(sel=selector)
