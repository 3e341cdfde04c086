"""Measure a query, cold in a process of its own and warm in one that stays, part by part.

    python scripts/bench_query.py                       the bundled model, 1,000 and 100,000 vectors
    python scripts/bench_query.py --shape base-384      random weights of the real shape

The library is filled with random unit vectors: the time does not depend on what they mean.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts, Where
from siglip_search import Question, demo
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.library import Library
from siglip_search.models.files import add_model_folder
from siglip_search.models.model_folder import load_model_folder
from siglip_search.settings import load_settings, models_directory

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec

# Of a random library every thirtieth picture or so reaches this, with the bundled model.
CUT: dict[str, Any] = {"min_probability": 0.4}
QUESTIONS = (
    (
        "--plus, --minus",
        Question("bicycle", plus=(("snow", 2.0),), minus=(("sea", 1.0),), **CUT),
    ),
    ("--like, indexed", Question(like_photo=(1,))),
    ("--not", Question("bicycle", without=("dog",), **CUT)),
    ("--any-of, two texts", Question(any_of=("dog", "beach"), **CUT)),
    ("--all-of, two texts", Question(all_of=("dog", "beach"), **CUT)),
    ("--all-of, nothing matches", Question(all_of=("dog", "beach"), min_probability=1.0)),
    ("--all-of, no cut", Question(all_of=("dog", "beach"), min_probability=0.0)),
    ("the page at --offset 5000", Question("dog", min_probability=0.0, offset=5000)),
    ("--sort date", Question("dog", sort="date", **CUT)),
    ("a filter alone that leaves all", Question(where=Where(min_width=1))),
)
IMPORTS = ("numpy", "onnxruntime", "faiss", "sentencepiece", "click", "siglip_search.cli")


def main() -> None:
    """Print one table a library."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["demo", "base-384"], default="demo")
    parser.add_argument("--vectors", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        spec = prepare_model(options.shape, Path(folder))
        for number in options.vectors:
            measure(spec, Path(folder, f"library-{number}"), number, options.runs)
    print("| import, in a process of its own | ms |\n| --- | --- |")
    bare = median_ms([sys.executable, "-c", "pass"], options.runs)
    print(f"| Python itself | {bare:.0f} |")
    for name in IMPORTS:
        whole = median_ms([sys.executable, "-c", f"import {name}"], options.runs)
        print(f"| {name} | {whole - bare:.0f} |")


def prepare_model(shape: str, folder: Path) -> ModelSpec:
    """Return the model to ask with."""
    if shape == "demo":
        return load_model_folder(demo.model_directory())
    from random_tower import write_random_model  # beside this script

    write_random_model(folder / "random", shape=shape)
    return add_model_folder(folder / "random", models_directory())


def fill(spec: ModelSpec, directory: Path, number: int) -> None:
    """Write a library of random unit vectors."""
    chance = np.random.default_rng(0)
    space = space_of(spec)
    facts = PhotoFacts(width=4000, height=3000, format="JPEG")
    with open_store(directory, writable=True) as store:
        for start in range(0, number, 4096):
            vectors = chance.standard_normal(
                (min(4096, number - start), spec.dimension), np.float32
            )
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            with store.write() as writer:
                writer.ensure_space(space)
                root = writer.ensure_root(b"/photographs", None)
                for index, vector in enumerate(vectors, start):
                    photo = NewPhoto(index.to_bytes(32), facts, vector, "fp32", "cpu")
                    entry = FileEntry(root.id, b"%06d.jpg" % index, Fingerprint(index + 1, 1))
                    writer.link_files(writer.add_photo(space.key, photo), [entry])


def measure(spec: ModelSpec, directory: Path, number: int, runs: int) -> None:
    """Fill a library, ask it, and print a table."""
    fill(spec, directory, number)
    command = [sys.executable, "-m", "siglip_search", "query", "--library", str(directory)]
    command += ["--min-probability", "0", "--json", "red bicycle"]
    rows = [("cold: a process of its own", median_ms(command, runs))]
    settings = replace(load_settings(), library=directory)
    started = time.perf_counter()
    with Library(settings) as library:
        library.answer("red bicycle", min_probability=0.0)
        rows.append(("first query in a process with imports done", since_ms(started)))
        times = []
        for run in range(runs * 3):
            started = time.perf_counter()
            library.answer(f"red bicycle {run}", min_probability=0.0)
            times.append(since_ms(started))
        rows.append(("warm query", statistics.median(times)))
        started = time.perf_counter()
        for run in range(10):
            library.answering().text_vectors([f"red bicycle {run}"])
        rows.append(("of that, text tower and tokenizer", since_ms(started) / 10))
        rows += [
            (f"warm: {what}", least_answer_ms(library, question, runs))
            for what, question in QUESTIONS
        ]
    weights = "" if spec.name == "demo" else " (random weights)"
    print(f"{spec.name}{weights}, {number:,} vectors of {spec.dimension}")
    print("| query | ms |\n| --- | --- |")
    for what, milliseconds in rows:
        print(f"| {what} | {milliseconds:.1f} |")
    print(flush=True)


def least_answer_ms(library: Library, question: Question, runs: int) -> float:
    """Return how long a question takes in a library that has answered it before.

    The least of all runs: on a busy machine their median tells of the others.
    """
    library.answer(question)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        library.answer(question)
        times.append(since_ms(started))
    return min(times)


def since_ms(started: float) -> float:
    """Return the milliseconds since a reading of perf_counter."""
    return (time.perf_counter() - started) * 1000


def median_ms(command: list[str], runs: int) -> float:
    """Return the median wall-clock time of a command, after one run that warms the caches."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        times.append(since_ms(started))
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
