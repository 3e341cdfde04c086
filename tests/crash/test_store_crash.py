"""A writer killed at any moment costs nothing that it had acknowledged."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from crash.store_writer import BATCH
from stored_samples import SPACE, as_stored, fill, unit_vectors

from siglip_index import open_store
from siglip_index.verify import verify

WRITER = Path(__file__).with_name("store_writer.py")
RANDOM_KILLS = 12
FOREVER = 10**6


def start_writer(
    library: Path, first_batch: int, batches: int, die_at: int = 0
) -> subprocess.Popen[str]:
    arguments = [str(library), str(first_batch), str(batches), str(die_at)]
    return subprocess.Popen(
        [sys.executable, str(WRITER), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def acknowledged(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines if line.startswith("ack") and "\n" in line]


def committed_batches(library: Path) -> int:
    """Return how many batches are there, after making sure that they are there whole."""
    with open_store(library, writable=False) as store:
        pictures = store.counts().pictures
        assert pictures % BATCH == 0, "a batch was torn"
        batches = pictures // BATCH
        if not batches:
            return 0
        hashes = [b"content-%d" % number for number in range(pictures)]
        known = store.photos_by_hash(SPACE.key, hashes)
        assert len(known) == pictures
        ids = [known[digest][0] for digest in hashes]
        expected = np.concatenate(
            [as_stored(unit_vectors(BATCH, seed=batch * BATCH)) for batch in range(batches)]
        )
        np.testing.assert_array_equal(store.vectors(SPACE.key, ids), expected)
        assert len(store.photos(ids)) == pictures
        (found,) = store.nearest(SPACE.key, expected[-1:], pictures + 1)
        assert {neighbour.photo_id for neighbour in found} == set(ids)
        assert found[0].photo_id == ids[-1]
        return batches


def check(library: Path, acknowledged_batches: int) -> int:
    report = verify(library)
    assert report.is_whole, report
    batches = committed_batches(library)
    assert batches >= acknowledged_batches, "acknowledged photos are gone"
    return batches


def goes_on(library: Path, batches: int) -> None:
    """Let a next run add a batch and close properly."""
    with open_store(library, writable=True) as store:
        fill(store, BATCH, first=batches * BATCH)
        store.write_snapshot(force=True)
    assert check(library, batches + 1) == batches + 1
    assert verify(library).notes == ()
    assert not list(library.glob("*.tmp"))
    assert len(list(library.glob("vectors-*"))) == 2


@pytest.mark.timeout(240)
def test_killed_at_random_moments(tmp_path: Path) -> None:
    library = tmp_path / "library"
    generator = random.Random(20)
    done = 0
    for _ in range(RANDOM_KILLS):
        with start_writer(library, done, FOREVER) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]  # at least one batch is through
            timer = threading.Timer(generator.uniform(0, 0.12), process.kill)
            timer.start()
            lines += process.stdout.readlines()
            timer.join()
        assert process.returncode != 0
        acked = acknowledged(lines)
        assert acked == list(range(done, done + len(acked)))
        done = check(library, done + len(acked))
    goes_on(library, done)


@pytest.mark.timeout(240)
def test_killed_at_every_step_of_a_commit_and_a_snapshot(tmp_path: Path) -> None:
    """Every statement, sync and rename in turn, with a snapshot of an earlier state in place."""
    prepared = tmp_path / "prepared"
    with start_writer(prepared, 0, 3) as process:
        process.communicate()
    assert process.returncode == 0
    shutil.copytree(prepared, tmp_path / "counted")
    with start_writer(tmp_path / "counted", 3, 1) as process:
        output, _ = process.communicate()
    steps = int(output.split("end ")[1])
    assert steps > 40

    def kill_at(step: int) -> int:
        library = tmp_path / f"library-{step}"
        shutil.copytree(prepared, library)
        with start_writer(library, 3, 1, die_at=step) as process:
            output, _ = process.communicate()
        assert process.returncode != 0, f"was not killed at step {step}"
        done = check(library, 3 + len(acknowledged(output.splitlines(keepends=True))))
        goes_on(library, done)
        return done

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(kill_at, range(1, steps + 1)))
    assert set(results) == {3, 4}
    assert results == sorted(results), "there is one moment at which the batch is committed"
