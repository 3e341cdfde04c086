"""Measure the local store: committing, opening, searching, filtering, replaying.

Vectors are random and of no meaning; only the times count. Run it on an idle machine:

    python scripts/bench_store.py [--photos 10000 100000] [--dimension 768]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts, Space, Where
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siglip_index.local_store import LocalStore

BATCH = 32
ROOT = b"/photos"
TOP_K = 20
REPLAYED = 1000
# Each folder's share of the photos; the rest lies beside them.
FOLDERS = {"0.01 %": (b"few", 0.0001), "1 %": (b"some", 0.01), "50 %": (b"half", 0.5)}

# What a cold command does, in a process of its own: {open, first search} in seconds.
COLD = """
import json, sys, time
from pathlib import Path
import numpy as np
import faiss
from siglip_index import open_store
start = time.perf_counter()
store = open_store(Path(sys.argv[1]), writable=False)
space = store.active_space()
opened = time.perf_counter()
store.nearest(space.key, np.eye(space.dimension, dtype=np.float32)[:1], 20)
searched = time.perf_counter()
store.close()
print(json.dumps([opened - start, searched - opened]))
"""


def unit_vectors(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Return random vectors of length 1, shape (count, dimension)."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def folder_of(number: int, photos: int) -> bytes:
    """Return the folder of a photo, so that each folder has its share."""
    start = 0
    for name, share in FOLDERS.values():
        start += round(photos * share)
        if number < start:
            return name
    return b"rest"


def commit(store: LocalStore, space: Space, first: int, count: int, photos: int) -> float:
    """Commit photos in batches; return photos per second."""
    vectors = unit_vectors(count, space.dimension, seed=first)
    start = time.perf_counter()
    for offset in range(0, count, BATCH):
        with store.write() as writer:
            writer.ensure_space(space)
            root = writer.ensure_root(ROOT, 1)
            for place in range(offset, min(offset + BATCH, count)):
                number = first + place
                photo = NewPhoto(
                    content_hash=number.to_bytes(32, "little"),
                    facts=PhotoFacts(4000, 3000, "JPEG", taken_at="2024-05-06T07:08:09"),
                    vector=vectors[place],
                    precision="fp32",
                    device="cpu",
                )
                path = folder_of(number, photos) + b"/%08d.jpg" % number
                entry = FileEntry(root.id, path, Fingerprint(5_000_000 + number, number, number), 1)
                writer.link_files(writer.add_photo(space.key, photo), [entry])
    return count / (time.perf_counter() - start)


def cold_start(library: Path) -> tuple[float, float]:
    """Return seconds to open and to search first, median of five fresh processes."""
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", COLD, str(library)]))
        for _ in range(5)
    ]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


def median_s(work: Callable[[], object], repeats: int = 15) -> float:
    """Return the median time that the work takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(photos: int, dimension: int, library: Path) -> list[tuple[str, str]]:
    """Fill a new library and return what was measured, as names and figures."""
    space = Space("bench", dimension, "random vectors")
    rows: list[tuple[str, str]] = []
    store = open_store(library, writable=True)
    rows.append(
        (f"commit, batches of {BATCH}", f"{commit(store, space, 0, photos, photos):,.0f} photos/s")
    )
    start = time.perf_counter()
    store.write_snapshot(force=True)
    rows.append(("build the index and write the snapshot", seconds(start)))
    query = unit_vectors(1, dimension, seed=-1 % 2**32)
    rows.append(
        (f"search, best {TOP_K}", milliseconds(lambda: store.nearest(space.key, query, TOP_K)))
    )
    for name, (folder, _) in FOLDERS.items():
        where = Where(under=(ROOT + b"/" + folder,))
        rows.append(
            (
                f"search within {name}",
                milliseconds(partial(store.nearest, space.key, query, TOP_K, where)),
            )
        )
    rows.append(
        (
            "all above a cut (about 1 in 40)",
            milliseconds(lambda: store.matches(space.key, query[0], 2 / dimension**0.5)),
        )
    )
    store.close()
    opened, searched = cold_start(library)
    rows.append(("fresh process: open", f"{opened * 1e3:,.1f} ms"))
    rows.append(("fresh process: first search, from the snapshot", f"{searched * 1e3:,.1f} ms"))
    with open_store(library, writable=True) as store:
        commit(store, space, photos, REPLAYED, photos)
        store.close(write_snapshot=False)
    rows.append(
        (f"fresh process: with {REPLAYED} newer photos", f"{cold_start(library)[1] * 1e3:,.1f} ms")
    )
    for manifest in library.glob("vectors-*.json"):
        manifest.unlink()
    rows.append(("fresh process: without snapshot", f"{cold_start(library)[1] * 1e3:,.1f} ms"))
    start = time.perf_counter()
    report = verify(library)
    assert report.is_whole, report
    rows.append(("verify", seconds(start)))
    usage = sum(path.stat().st_size for path in library.glob("library.sqlite3*"))
    rows.append(("database", f"{usage / (photos + REPLAYED):,.0f} bytes/photo"))
    return rows


def seconds(start: float) -> str:
    """Return the time since start as text."""
    return f"{time.perf_counter() - start:,.2f} s"


def milliseconds(work: Callable[[], object]) -> str:
    """Return the median time of warm runs as text."""
    work()
    return f"{median_s(work) * 1e3:,.1f} ms"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dimension", type=int, default=768)
    options = parser.parse_args()
    columns = []
    for photos in options.photos:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(photos, options.dimension, Path(folder) / "library"))
    names = [name for name, _ in columns[0]]
    table = [
        ["", *(f"{photos:,} x {options.dimension}" for photos in options.photos)],
        ["---", *("---:" for _ in columns)],
        *([name, *(column[number][1] for column in columns)] for number, name in enumerate(names)),
    ]
    for row in table:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
