"""Killed, interrupted, full and corrupted: nothing acknowledged is ever lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed_command import COMMAND
from PIL import Image

from siglip_index import open_store
from siglip_index.verify import verify
from siglip_search import open_library
from siglip_search.engine.chosen_model import add_model

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 10
PICTURES = 800


@pytest.fixture(scope="module")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(PICTURES):
        image = Image.new("RGB", (24, 24), (number % 256, number // 256, 90))
        image.save(folder / f"{number:05}.bmp")
    return folder


def start(library: Path, folder: Path | None) -> subprocess.Popen[str]:
    """Index a folder with the demonstration model, or all known ones with the library's own."""
    what = ["--model", "demo", folder] if folder else []
    return subprocess.Popen(
        [COMMAND, "index", "--library", library, "--json-events", *what],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def acknowledged(lines: Iterator[str] | list[str]) -> set[str]:
    paths: set[str] = set()
    for line in lines:
        if line.endswith("\n"):  # a line that was cut off was not heard
            event = json.loads(line)
            if event["event"] == "committed":
                paths.update(event["paths"])
    return paths


def paths_in(library: Path) -> set[str]:
    with open_store(library, writable=False) as store:
        return {
            os.fsdecode(os.path.join(root.path, file.path))
            for root in store.roots()
            for file in store.files(root.id)
            if file.present and file.photo_id is not None
        }


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.timeout(600)
def test_acknowledged_pictures_survive_sigkill_at_random_moments(
    many_pictures: Path, tmp_path: Path
) -> None:
    chance = random.Random(20261121)
    library = tmp_path / "library"
    everything: set[str] = set()
    for kill in range(KILLS):
        if kill % 10 == 0:
            # Begin anew from time to time, so that every part of a library's life is hit.
            shutil.rmtree(library, ignore_errors=True)
            everything.clear()
        process = start(library, many_pictures)
        assert process.stdout is not None
        assert process.stderr is not None
        # From the very start-up on, and then between or amid later and later commits.
        lines = [process.stdout.readline() for _ in range(chance.randrange(4))]
        time.sleep(chance.random() * (0.05 if lines else 1.0))
        process.kill()
        rest, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        everything |= acknowledged(lines + rest.splitlines(keepends=True))
        if library.exists():
            report = verify(library, repair=False)
            assert report.is_whole, report.problems
            assert everything <= paths_in(library)
        else:
            assert not everything
    assert everything
    process = start(library, many_pictures)
    output, errors = process.communicate(timeout=120)
    last = json.loads(output.splitlines()[-1])
    assert last["seen"] == PICTURES, errors
    assert last["added"] + last["unchanged"] == PICTURES
    assert len(paths_in(library)) == PICTURES
    assert verify(library, repair=False).is_whole


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_library_answers_whenever_a_change_of_model_is_killed(
    many_pictures: Path, tmp_path: Path, tiny_model: Path
) -> None:
    chance = random.Random(20261122)
    library = tmp_path / "library"
    add_model(tiny_model, replace=True)
    with open_library(library, model="demo") as opened:
        opened.index([many_pictures])
        opened.use_model("random-tiny")
    kills = 0
    while True:
        process = start(library, None)
        assert process.stdout is not None
        assert process.stderr is not None
        # The last line comes after the switch, the others amid the embedding before it.
        lines = [process.stdout.readline() for _ in range(chance.randrange(4))]
        time.sleep(chance.random() * (0.05 if lines else 0.7))
        process.kill()
        _, errors = process.communicate(timeout=60)
        kills += 1
        assert "Traceback" not in errors
        report = verify(library, repair=False)
        assert report.is_whole, report.problems
        with open_library(library) as opened:
            status = opened.status()
            assert len(opened.search("red", top_k=PICTURES, min_probability=0.0)) == PICTURES
        if status.model == "random-tiny":
            break
        assert (status.model, status.coming) == ("demo", "random-tiny")
        assert kills < 100
    assert kills > 2
    assert status.coming is None


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_commits_what_is_computed_and_the_next_run_goes_on(
    many_pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    library = tmp_path / "library"
    process = start(library, many_pictures)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    sent = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    # A second plus one inference; generous, because the machine may be busy.
    assert time.monotonic() - sent < 5
    again = f"siglip-search index --library {library} --json-events --model demo {many_pictures}"
    assert f"`{again}` goes on from here" in errors
    assert "Traceback" not in errors
    report = json.loads(output.splitlines()[-1])
    assert report["stopped"]
    assert report["pending"] > 0
    assert report["added"] + report["pending"] == PICTURES
    told = acknowledged([first, *output.splitlines(keepends=True)])
    assert len(told) == report["added"] == len(paths_in(library))
    assert verify(library, repair=False).is_whole


def children_of(process: subprocess.Popen[str]) -> set[str]:
    """Return the numbers of the processes that any thread of a process has started."""
    children: set[str] = set()
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            children |= set((task / "children").read_text().split())
    return children


def test_workers_end_with_their_parent(many_pictures: Path, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("looks for processes in /proc")
    process = start(tmp_path / "library", many_pictures)
    assert process.stdout is not None
    process.stdout.readline()
    children = children_of(process)
    assert children
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        assert time.monotonic() < deadline, "a decoding process outlived its parent"
        time.sleep(0.1)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills single processes")
def test_killed_decoder_fails_at_most_the_picture_in_its_hands(
    many_pictures: Path, tmp_path: Path
) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("looks for processes in /proc")
    process = start(tmp_path / "library", many_pictures)
    assert process.stdout is not None
    first = process.stdout.readline()
    children = children_of(process)
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    report = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, errors
    assert report["failed"] <= len(children)
    assert report["added"] == PICTURES - report["failed"]
    assert all("crashed" in failure["reason"] for failure in report["failures"])
    assert len(acknowledged([first, *output.splitlines(keepends=True)])) == report["added"]


def test_second_writer_is_told_who_the_first_is(many_pictures: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    process = start(library, many_pictures)
    assert process.stdout is not None
    process.stdout.readline()
    # However slow the machine, the first one is not done before the others ask.
    if sys.platform != "win32":
        process.send_signal(signal.SIGSTOP)
    try:
        second, query = (
            subprocess.run(
                [COMMAND, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            for command in (
                ["index", "--library", library, many_pictures],
                ["query", "--library", library, "--min-probability", "0", "red"],
            )
        )
    finally:
        if sys.platform != "win32":
            process.send_signal(signal.SIGCONT)
        process.communicate(timeout=120)
    assert second.returncode == 2
    assert str(process.pid) in second.stderr
    assert "Traceback" not in second.stderr
    # Readers are not in its way, nor it in theirs.
    assert query.returncode == 0, query.stderr
    assert process.returncode == 0


def test_corrupt_snapshot_changes_no_answer(many_pictures: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    process = start(library, many_pictures)
    process.communicate(timeout=120)
    ask = [COMMAND, "query", "--library", library, "--paths", "--min-probability", "0", "red"]
    before = subprocess.run(ask, capture_output=True, check=True)
    snapshots = list(library.rglob("*.faiss"))
    assert snapshots
    for snapshot in snapshots:
        data = bytearray(snapshot.read_bytes())
        data[len(data) // 2] ^= 0xFF
        snapshot.write_bytes(data)
    assert not verify(library, repair=False).is_whole
    after = subprocess.run(ask, capture_output=True, check=True)
    assert after.stdout == before.stdout
    assert b"rebuilt from the database" in after.stderr
    assert len(after.stderr.splitlines()) == 1
    repair = subprocess.run(
        [COMMAND, "verify", "--repair", "--library", library], capture_output=True, check=True
    )
    assert b"the library is whole" in repair.stdout
    assert verify(library, repair=False).is_whole


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.name == "nt" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_ends_the_run_with_one_line_and_loses_nothing(
    many_pictures: Path, tiny_disk: Path
) -> None:
    library = tiny_disk / "library"
    process = start(library, many_pictures)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert "full" in errors or "space" in errors
    told = acknowledged(output.splitlines(keepends=True))
    assert told
    assert told <= paths_in(library)
    assert verify(library, repair=False).is_whole
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    process = start(library, many_pictures)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(paths_in(library)) == PICTURES
    assert verify(library, repair=False).is_whole
