"""Measure searching within conditions: which photos meet them, and the nearest of these.

Vectors and facts are random; only the times count, which are the processor's: all of this works
in one thread, and nothing waits for a disk once the files are in memory.

    python scripts/bench_filtered.py [--photos 500000] [--dimension 768] [--library FOLDER]

A library that is named is made once and kept; 500,000 photos take 1.9 GB and some minutes.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts, Space, Where
from siglip_index.selection import selected_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_index.local_store import LocalStore

BATCH = 2000
ROOT = b"/photos"
TOP_K = 20
SECONDS = 20 * 365 * 86400
FIRST_S = 1_136_073_600  # 2006
SHARES = (0.0001, 0.01, 0.5)
NAMES = ("few", "some", "half")
REPEATS = 5


def kind_of(place: float) -> str:
    """Return the name of the share of [0, 1) in which a number lies."""
    start = 0.0
    for name, share in zip(NAMES, SHARES, strict=True):
        start += share
        if place < start:
            return name
    return "rest"


def facts_of(generator: np.random.Generator) -> tuple[PhotoFacts, int, list[tuple[str, float]]]:
    """Return random facts, a modification time (epoch seconds) and tags."""
    taken_s = FIRST_S + int(generator.random() * SECONDS)
    has_time, has_place = generator.random() < 0.75, generator.random() < 0.5
    keywords = [f"trip {generator.integers(50)}", f"person {generator.integers(30)}"]
    is_wide = generator.random() < 0.7
    facts = PhotoFacts(
        width=4000 if is_wide else 3000,
        height=3000 if is_wide else 4000,
        format={"few": "PNG", "some": "HEIF"}.get(kind_of(generator.random()), "JPEG"),
        taken_at=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(taken_s)) if has_time else None,
        camera=f"Maker {kind_of(generator.random())}",
        lens=f"Lens {generator.integers(20)}mm",
        # Along one meridian, so that the share within a distance is known.
        latitude=float(generator.random() * 180 - 90) if has_place else None,
        longitude=10.0 if has_place else None,
        rating=int(generator.integers(1, 6)) if generator.random() < 0.05 else None,
        keywords=tuple(keywords) if generator.random() < 0.1 else (),
    )
    tags = [(f"label {number}", 0.5) for number in generator.integers(0, 300, size=2)]
    tags.append((f"label {kind_of(generator.random())}", 0.5))
    return facts, taken_s, list(dict(tags).items())


def fill(store: LocalStore, photos: int, dimension: int) -> None:
    """Commit random photos with facts and tags."""
    generator = np.random.default_rng(1)
    space = Space("bench", dimension, "random vectors")
    for first in range(0, photos, BATCH):
        count = min(BATCH, photos - first)
        vectors = generator.standard_normal((count, dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with store.write() as writer:
            writer.ensure_space(space)
            root = writer.ensure_root(ROOT, 1)
            tagged = []
            for number, vector in enumerate(vectors, start=first):
                facts, changed_s, tags = facts_of(generator)
                photo = NewPhoto(number.to_bytes(32, "little"), facts, vector, "fp32", "cpu")
                photo_id = writer.add_photo(space.key, photo)
                folder = kind_of(generator.random()).encode()
                entry = FileEntry(
                    root.id,
                    folder + b"/%08d.jpg" % number,
                    Fingerprint(5_000_000 + number, changed_s * 10**9, number),
                    1,
                )
                writer.link_files(photo_id, [entry])
                tagged.append((photo_id, tags))
            writer.put_tags(space.key, "labels", tagged)


def conditions(photos: int) -> list[tuple[str, Where]]:
    """Return what is measured, with its name."""
    found: list[tuple[str, Where]] = []
    for name, share in zip(NAMES, SHARES, strict=True):
        found.append((f"folder, {share:.2%}", Where(under=(ROOT + b"/" + name.encode(),))))
    for share in SHARES:
        start = time.gmtime(FIRST_S + SECONDS - share * SECONDS)
        found.append((f"date, {share:.2%}", Where(taken_from=time.strftime("%FT%T", start))))
    found += [
        (f"changed, {share:.2%}", Where(changed_from=FIRST_S + SECONDS - share * SECONDS))
        for share in SHARES
    ]
    for share in SHARES[:2]:
        # Half of the photos have a place; the meridian is 20,015 km long.
        radius_m = share * 2 / 2 * 20_015_000
        found.append((f"near, {share:.2%}", Where(near=(20.0, 10.0, radius_m))))
    found.append(("near, all that have a position", Where(near=(0.0, 10.0, 11e6))))
    for name, share in zip(NAMES, SHARES, strict=True):
        found.append((f"camera, {share:.2%}", Where(cameras=(name.upper(),))))
    for name, share in zip(NAMES, SHARES, strict=True):
        found.append((f"tag, {share:.2%}", Where(tags=(f"Label {name}",))))
    found += [
        ("format, 0.01%", Where(formats=("PNG",))),
        ("format, 1.00%", Where(formats=("HEIF",))),
        ("portrait, 30%", Where(orientation="portrait")),
        ("rating of 5, 1%", Where(min_rating=5)),
        ("keyword, 0.2%", Where(keywords=("Trip 7",))),
        ("without position, 50%", Where(has_gps=False)),
        ("all but 1,000 photos", Where(not_photo_ids=frozenset(range(1, 1001)))),
        ("half of the photos by id", Where(photo_ids=frozenset(range(1, photos, 2)))),
        (
            "portrait, camera 50%, date 50%",
            Where(orientation="portrait", cameras=("half",), taken_from="2016-01-01"),
        ),
    ]
    return found


def median_ms(work: Callable[[], object]) -> float:
    """Return the median processor time of warm runs in milliseconds."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def measure(library: Path, photos: int, dimension: int) -> None:
    """Print the table."""
    query = np.random.default_rng(2).standard_normal((1, dimension), dtype=np.float32)
    query /= np.linalg.norm(query)
    database = f"{(library / 'library.sqlite3').as_uri()}?mode=ro"
    with (
        open_store(library, writable=False) as store,
        closing(sqlite3.connect(database, uri=True)) as connection,
    ):
        space = store.active_space()
        assert space is not None
        everything = median_ms(partial(store.nearest, space.key, query, TOP_K))
        print(f"| {photos:,} x {dimension} | photos | which photos, ms | nearest, ms |")
        print("| --- | ---: | ---: | ---: |")
        print(f"| no condition | {store.counts().pictures:,} | | {everything:.1f} |")
        for name, where in conditions(photos):
            found = len(selected_ids(connection, where))
            selected = median_ms(partial(selected_ids, connection, where))
            nearest = median_ms(partial(store.nearest, space.key, query, TOP_K, where))
            print(f"| {name} | {found:,} | {selected:.1f} | {nearest:.1f} |", flush=True)
        for name, work in {
            "a sample of 1,000": partial(store.sample_ids, space.key, 1000),
            "moments of 1,000": partial(store.moments, range(1, 1001)),
            "moments of all": partial(store.moments, range(1, photos + 1)),
            "all positions": store.positions,
            "counts of tags": partial(store.tag_counts, space.key),
            "not tagged": partial(store.photos_untagged, space.key, "labels"),
        }.items():
            print(f"| {name} | | {median_ms(work):.1f} | |", flush=True)


def main() -> None:
    """Make the library where it is not there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=500_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--library", type=Path, help="where to keep it for another time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = (options.library or Path(folder) / "library").absolute()
        made = library / "bench_filtered.json"
        what = {"photos": options.photos, "dimension": options.dimension}
        if not made.exists() or json.loads(made.read_text()) != what:
            start = time.perf_counter()
            with open_store(library, writable=True) as store:
                fill(store, options.photos, options.dimension)
                store.write_snapshot(force=True)
            made.write_text(json.dumps(what))
            print(f"made in {time.perf_counter() - start:.0f} s\n")
        measure(library, options.photos, options.dimension)


if __name__ == "__main__":
    main()
