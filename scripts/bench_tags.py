"""Measure what tagging costs: labels made vectors, a library compared, a run without work.

The library's vectors are made up around the labels' own, so that each picture gets about five tags;
only the times count. Run it on an idle machine:

    python scripts/bench_tags.py [--photos 100000] [--random-tower base-224]
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from random_tower import write_random_model

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts, Where
from siglip_search.engine.chosen_model import model_called, space_of
from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.engine.label_vectors import label_vectors
from siglip_search.engine.tagging import TagChoice, tag_new, tag_pictures
from siglip_search.models.model_folder import load_model_folder
from siglip_search.search.scoring import match_probability
from siglip_search.search.vocabulary import default_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siglip_index.local_store import LocalStore
    from siglip_search.models.spec import ModelSpec

ROWS_A_COMMIT = 5_000
TAGS_A_PICTURE = 5


def fill(store: LocalStore, spec: ModelSpec, labels: NDArray[np.float32], photos: int) -> None:
    """Commit photos whose vectors lie between three labels and nowhere."""
    space = space_of(spec)
    facts = PhotoFacts(640, 480, "JPEG")
    generator = np.random.default_rng(1)
    for start in range(0, photos, ROWS_A_COMMIT):
        count = min(ROWS_A_COMMIT, photos - start)
        of = generator.integers(0, len(labels), (count, 3))
        vectors = labels[of].mean(axis=1)
        noise = generator.standard_normal(vectors.shape, dtype=np.float32)
        vectors += 0.7 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with store.write() as writer:
            root = writer.ensure_root(b"/photos", 1)
            for number, vector in enumerate(vectors, start=start):
                photo = NewPhoto(b"%032d" % number, facts, vector, "fp32", "cpu")
                path = b"%04d/%07d.jpg" % (number // 500, number)
                entry = FileEntry(root.id, path, Fingerprint(10**6 + number, number, number), 1)
                writer.link_files(writer.add_photo(space.key, photo), [entry])


def peak_mib(*, anew: bool = False) -> float:
    """Return the most memory that this process has had, in MiB; 0 where Linux is not asked.

    Args:
        anew: From now on, rather than since it began.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    peak = re.search(r"^VmHWM:\s+(\d+)", status.read_text(), re.MULTILINE)
    assert peak is not None
    return int(peak[1]) / 1024


def timed(what: str, act: Callable[[], object]) -> None:
    """Print how long something takes."""
    started = time.perf_counter()
    result = act()
    print(f"{what}: {time.perf_counter() - started:.3f} s{'' if result is None else f' {result}'}")


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--random-tower", metavar="SHAPE", help="instead of the demo model")
    arguments = parser.parse_args()
    vocabulary, stop = default_vocabulary(DEFAULT_TEMPLATES), threading.Event()
    with tempfile.TemporaryDirectory() as temporary:
        spec = model_called("demo")
        if arguments.random_tower:
            folder = write_random_model(Path(temporary, "model"), shape=arguments.random_tower)
            spec = load_model_folder(folder)
        with open_store(Path(temporary, "library"), writable=True) as store:
            with store.write() as writer:
                writer.ensure_space(space_of(spec))
            started = time.perf_counter()
            labels = label_vectors(store, spec, vocabulary, stop=stop)
            assert labels is not None
            seconds = time.perf_counter() - started
            number, size = len(labels), spec.dimension
            print(
                f"{number} labels of {size} numbers, {len(DEFAULT_TEMPLATES)} ways: {seconds:.1f} s"
            )
            fill(store, spec, labels, arguments.photos)
            ids = [int(photo) for photo in store.sample_ids(spec.space_key, 2000)]
            cosines = store.vectors(spec.space_key, ids) @ labels.T
            cut = float(np.quantile(cosines, 1 - TAGS_A_PICTURE / number))
            bias = spec.score.logit_bias
            assert bias is not None
            chance = match_probability(cut, logit_scale=spec.score.logit_scale, logit_bias=bias)
            choice = TagChoice(vocabulary, "model", chance)
            before = peak_mib(anew=True)
            report = tag_pictures(store, spec, choice, stop=stop)
            print(
                f"{report.pictures:,} pictures compared: {report.seconds:.1f} s, "
                f"{report.tags:,} tags, {peak_mib() - before:.0f} MiB more at the peak"
            )
            timed(
                "all again", lambda: tag_pictures(store, spec, choice, stop=stop, again=True).tags
            )
            timed("nothing new", lambda: tag_new(store, spec, stop=stop))
            timed(
                "nothing new in a folder of 500",
                lambda: tag_new(store, spec, stop=stop, among=ids[:500]),
            )
            timed("counts", lambda: len(store.tag_counts(spec.space_key)))
            commonest = next(iter(store.tag_counts(spec.space_key)))
            where = Where(tags=(commonest,))
            store.nearest(spec.space_key, labels[:1], 1)  # loads the index
            timed(
                "20 nearest with a tag",
                lambda: len(store.nearest(spec.space_key, labels[:1], 20, where)[0]),
            )


if __name__ == "__main__":
    main()
