"""Measure what one look at one new picture costs in a large library, beside decoding and tower.

The library's rows are made up, but for the folder that is looked at; the demo model embeds. Run it
on an idle machine:

    python scripts/bench_look.py [--photos 500000] [--looks 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts
from siglip_search.engine.chosen_model import model_called, space_of
from siglip_search.engine.following import Follower
from siglip_search.engine.indexing import IndexListener, IndexOptions
from siglip_search.photos.metadata import METADATA_VERSION
from siglip_search.photos.settling import Look
from siglip_search.settings import load_settings

FILES_A_FOLDER = 500
ROWS_A_COMMIT = 5_000


def fill(library: Path, root_path: Path, photos: int) -> None:
    """Write rows of photos that are nowhere on disk."""
    space = space_of(model_called("demo"))
    facts = PhotoFacts(640, 480, "JPEG", metadata_version=METADATA_VERSION)
    generator = np.random.default_rng(1)
    with open_store(library, writable=True) as store:
        for start in range(0, photos, ROWS_A_COMMIT):
            count = min(ROWS_A_COMMIT, photos - start)
            vectors = generator.standard_normal((count, space.dimension), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            with store.write() as writer:
                writer.ensure_space(space)
                root = writer.ensure_root(bytes(root_path), None)
                for number in range(start, start + count):
                    photo = NewPhoto(
                        b"%032d" % number, facts, vectors[number - start], "fp32", "cpu"
                    )
                    path = b"%04d/%07d.jpg" % (number // FILES_A_FOLDER, number)
                    entry = FileEntry(root.id, path, Fingerprint(10**6 + number, number, number), 1)
                    writer.link_files(writer.add_photo(space.key, photo), [entry])


def main() -> None:
    """Print the median time of a look, of which nothing and of which one picture is new."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=500_000)
    parser.add_argument("--looks", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, library = Path(temporary, "pictures"), Path(temporary, "library")
        (folder / "new").mkdir(parents=True)
        started = time.perf_counter()
        fill(library, folder, arguments.photos)
        print(f"{arguments.photos:,} photos made up in {time.perf_counter() - started:.0f} s")
        settings = replace(load_settings(), library=library)
        options = IndexOptions(on_battery="run")
        times: dict[str, list[float]] = {"nothing new": [], "one new picture": []}
        with Follower(settings, model="demo") as follower:
            for number in range(arguments.looks + 1):
                picture = folder / "new" / f"{number}.png"
                Image.new("RGB", (64, 64), (number, 90, 120)).save(picture)
                look = [Look(os.fsencode(picture), subfolders=False)]
                for what in ("one new picture", "nothing new"):
                    started = time.perf_counter()
                    report = follower.look(
                        look, options=options, stop=threading.Event(), listener=IndexListener()
                    )
                    elapsed = time.perf_counter() - started
                    assert report.embedded == (what == "one new picture")
                    if number:  # the first opens the tower
                        times[what].append(elapsed)
        for what, seconds in times.items():
            median, most = statistics.median(seconds) * 1e3, max(seconds) * 1e3
            print(f"{what}: median {median:.0f} ms, most {most:.0f} ms")


if __name__ == "__main__":
    main()
