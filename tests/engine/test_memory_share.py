"""How the free memory of a machine is shared among pictures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.engine.memory_share import (
    EMBEDDING_BYTES,
    MIN_SHARE_BYTES,
    MemoryShare,
    share_memory,
)
from siglip_search.photos.decode import DecodeLimits

GIB = 1024**3
LIMITS = DecodeLimits()


@pytest.mark.parametrize(
    ("jobs", "free", "expected"),
    [
        (2, 22 * GIB, MemoryShare(2, 2, 2 * GIB)),  # room for all: nothing is held back
        (8, 22 * GIB, MemoryShare(8, 8, 11 * GIB // 8)),
        (16, 4 * GIB, MemoryShare(4, 8, MIN_SHARE_BYTES)),
        (16, GIB // 2, MemoryShare(1, 1, 2 * GIB)),  # somebody has to do it
        (16, None, MemoryShare(16, 16, 2 * GIB)),
    ],
)
def test_machines(jobs: int, free: int | None, expected: MemoryShare) -> None:
    assert share_memory(jobs, free, LIMITS) == expected


@given(jobs=st.integers(1, 256), free=st.integers(0, 1024 * GIB))
def test_what_is_free_is_never_used_up(jobs: int, free: int) -> None:
    share = share_memory(jobs, free, LIMITS)
    assert 1 <= share.decode_workers <= jobs
    assert 1 <= share.embed_threads <= jobs
    assert 0 < share.shared_bytes <= LIMITS.max_memory_bytes
    decoding = max(share.decode_workers * share.shared_bytes, LIMITS.max_memory_bytes)
    embedding = share.embed_threads * EMBEDDING_BYTES
    # The one large picture, and one of each, are allowed on the smallest machine too.
    assert decoding <= max(free / 2, LIMITS.max_memory_bytes)
    assert embedding <= max(free / 4, EMBEDDING_BYTES)
