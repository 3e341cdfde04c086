"""Measure the search for near pairs: time, memory and what of planted pairs is found.

    python scripts/bench_dupes.py [--pictures 100000] [--dimension 768] [--pairs 1000]

Random unit vectors with planted near pairs, some of them in crowds of fifty look-alikes. Beside it,
a few blocks are asked of the index as `query` asks, for comparison.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from siglip_index.faiss_index import FaissIndex
from siglip_search.search.neighbour_pairs import near_cosine, nearest_pairs, typical_cosine
from siglip_search.towers.process_memory import peak_memory_bytes

_CROWD = 50
_ASKED = 512


def main() -> None:
    """Make the vectors, search, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--pairs", type=int, default=1_000)
    options = parser.parse_args()
    vectors, planted = planted_vectors(options.pictures, options.dimension, options.pairs)
    before = peak_memory_bytes()
    least = near_cosine(typical_cosine(vectors))
    started, processor = time.perf_counter(), time.process_time()
    found = nearest_pairs(vectors, least)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    more = peak_memory_bytes() - before
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores" if _has_load() else "")
    print(f"{options.pictures} vectors of {options.dimension}, least cosine {least:.3f}")
    print(f"blocks: {seconds:.1f} s ({processor:.1f} s of processor), {more / 2**20:.0f} MiB more")
    print(f"planted pairs found: {len(planted & pairs)} of {len(planted)}; pairs: {len(pairs)}")
    print(f"crowded: {found.crowded}")
    index = FaissIndex(options.dimension)
    index.add(np.arange(len(vectors), dtype=np.int64), vectors.astype(np.float32))
    started = time.perf_counter()
    index.search(vectors[:_ASKED].astype(np.float32), 33)
    asked = (time.perf_counter() - started) / _ASKED * options.pictures
    print(f"the same by asking the index for each vector: {asked:.0f} s, from {_ASKED} of them")


def planted_vectors(
    count: int, dimension: int, pairs: int
) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Return unit vectors in half precision, and which pairs of them were made near."""
    random = np.random.default_rng(0)
    vectors = np.empty((count, dimension), dtype=np.float16)
    for start in range(0, count, 8192):
        block = random.standard_normal((min(8192, count - start), dimension), dtype=np.float32)
        vectors[start : start + 8192] = block / np.linalg.norm(block, axis=1, keepdims=True)
    places = random.permutation(count)[: 2 * pairs].reshape(-1, 2)
    for first, second in places:
        vectors[second] = _near(vectors[first], 0.97, random)
    crowd = random.permutation(np.setdiff1d(np.arange(count), places.reshape(-1)))[:_CROWD]
    for other in crowd[1:]:
        vectors[other] = _near(vectors[crowd[0]], 0.93, random)
    return vectors, {(int(min(pair)), int(max(pair))) for pair in places}


def _near(vector: np.ndarray, cosine: float, random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal(len(vector)).astype(np.float32)
    noise -= (noise @ vector.astype(np.float32)) * vector
    noise /= np.linalg.norm(noise)
    return cosine * vector.astype(np.float32) + np.sqrt(1 - cosine**2) * noise


def _has_load() -> bool:
    return sys.platform != "win32"


if __name__ == "__main__":
    main()
