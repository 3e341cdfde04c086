"""How many pictures are worked on at a time so that the machine's memory is never used up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siglip_search.photos.decode import DecodeLimits

# Of what is free, so much for decoding and so much for embedding; the rest is for whatever else
# the machine is doing.
DECODING_PART = 0.5
EMBEDDING_PART = 0.25

# A photograph of 48 megapixels fits, whatever its format. The few that need more take turns.
MIN_SHARE_BYTES = 512 * 1024**2

# What one embedding takes beside the weights: 80 to 100 MB in towers of SigLIP base's shape at 384
# pixels (docs/long_runs.md).
EMBEDDING_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """Who may have how much.

    Attributes:
        decode_workers: Processes, >= 1.
        embed_threads: >= 1.
        shared_bytes: What a picture may take while others are decoded too.
    """

    decode_workers: int
    embed_threads: int
    shared_bytes: int


def share_memory(jobs: int, free_bytes: int | None, limits: DecodeLimits) -> MemoryShare:
    """Return how the free memory is shared.

    Args:
        jobs: Pictures at a time that were asked for, >= 1.
        free_bytes: What could be used now, with the model's weights loaded; None if unknown.
        limits: What one picture may cost.
    """
    most = limits.max_memory_bytes
    if free_bytes is None:
        return MemoryShare(jobs, jobs, most)
    for_decoding = int(DECODING_PART * free_bytes)
    share = min(most, max(MIN_SHARE_BYTES, for_decoding // jobs))
    workers = max(1, min(jobs, for_decoding // share))
    threads = max(1, min(jobs, int(EMBEDDING_PART * free_bytes) // EMBEDDING_BYTES))
    # Nobody to share with.
    return MemoryShare(workers, threads, most if workers == 1 else share)
