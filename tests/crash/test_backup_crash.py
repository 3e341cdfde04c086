"""Backups beside a writer that works and is killed; a restore that is killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored_samples import fill

from siglip_index import open_store
from siglip_index.restore import examine_backup, restore_backup, write_backup
from siglip_index.verify import verify

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")


def start_writer(library: Path, first: int, batches: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / "store_writer.py", library, str(first), str(batches), "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(lines: list[str]) -> int:
    """Return the number of the last batch whose commit was heard of."""
    return max((int(line.split()[1]) for line in lines if line.startswith("ack")), default=-1)


def test_backups_beside_a_writer_that_is_killed_are_each_one_state(tmp_path: Path) -> None:
    chance = random.Random(8)
    library = tmp_path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 2, first=10**6)
    first, pictures = 0, [2]
    for number in range(6):
        writer = start_writer(library, first, 10**6)
        assert writer.stdout is not None
        try:
            before = pictures[-1]
            heard = [writer.stdout.readline() for _ in range(chance.randrange(1, 30))]
            for take in range(3):
                found = write_backup(library, tmp_path / f"{number}-{take}.sqlite3")
                # A batch of two is committed at once, and what was acknowledged is there.
                assert found.pictures % 2 == 0
                assert found.pictures >= before + 2 * len(heard)
                pictures.append(found.pictures)
            if number % 2:
                time.sleep(chance.random() * 0.05)
        finally:
            writer.kill()
            rest, _ = writer.communicate(timeout=60)
        # One batch more than was heard of may have been committed.
        first = acknowledged([*heard, *rest.splitlines()]) + 2
        pictures.append(write_backup(library, tmp_path / f"{number}-killed.sqlite3").pictures)
    assert pictures == sorted(pictures)
    assert len(set(pictures)) > 6
    for backup in tmp_path.glob("*.sqlite3"):
        done = restore_backup(backup, tmp_path / "restored")
        assert done.counts.pictures == examine_backup(backup).pictures
        assert not done.repaired
    assert verify(library).is_whole
    assert verify(tmp_path / "restored").is_whole


_RESTORER = """
import sys
from pathlib import Path
from siglip_index.restore import restore_backup
print("begun", flush=True)
restore_backup(Path(sys.argv[1]), Path(sys.argv[2]))
print("done", flush=True)
"""


def test_killed_restore_leaves_the_one_library_or_the_other(tmp_path: Path) -> None:
    chance = random.Random(9)
    backups = []
    for pictures in (500, 900):
        with open_store(tmp_path / f"of-{pictures}", writable=True) as store:
            fill(store, pictures)
        backups.append(write_backup(tmp_path / f"of-{pictures}", tmp_path / f"{pictures}.sqlite3"))
    library = tmp_path / "library"
    restore_backup(backups[0].path, library)
    seen = []
    slow = 0.3
    for turn in range(12):
        backup = backups[(turn + 1) % 2]
        process = subprocess.Popen(
            [sys.executable, "-c", _RESTORER, backup.path, library],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        if turn == 0:
            process.communicate(timeout=60)
            slow = time.monotonic() - began
        else:
            time.sleep(chance.random() * slow)
            process.kill()
            process.communicate(timeout=60)
        report = verify(library)
        assert report.is_whole, report.problems
        with open_store(library, writable=False) as store:
            seen.append(store.counts().pictures)
    assert set(seen) <= {500, 900}
    restore_backup(backups[0].path, library)
    assert not list(library.glob("*.tmp"))


_KILLED_AT_THE_EXCHANGE = """
import os, sys
from pathlib import Path
from siglip_index import restore
replace = Path.replace
def killed(path, target):
    if Path(target) == Path(sys.argv[2]) / "library.sqlite3":
        os.kill(os.getpid(), 9)
    return replace(path, target)
Path.replace = killed
restore.restore_backup(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_restore_over_a_damaged_library_never_leaves_none(tmp_path: Path) -> None:
    library = tmp_path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 50)
    backup = write_backup(library, tmp_path / "safe").path
    database = library / "library.sqlite3"
    database.write_bytes(b"damaged" * 9999)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_THE_EXCHANGE, backup, library],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -9
    assert database.read_bytes() == b"damaged" * 9999
    assert restore_backup(backup, library).counts.pictures == 50
    assert not list(library.glob("*.tmp"))
