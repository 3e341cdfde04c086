"""inotify's limits and emulated processors, read from trees made for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from stored_samples import fill

from siglip_index import open_store
from siglip_search.engine.doctor_checks_library import with_library
from siglip_search.engine.doctor_checks_watching import (
    count_folders,
    look_at_inotify,
    raising,
    taken,
)
from siglip_search.engine.doctor_emulation import emulated_on_linux, is_made_for_x86_64
from siglip_search.engine.doctor_finding import Subject
from siglip_search.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' files")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A library with one root of ten folders, on a machine whose /proc is empty."""
    root = tmp_path / "pictures"
    for number in range(9):
        (root / str(number)).mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / ".hidden" / "deep").mkdir(parents=True)
    library = tmp_path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 1, root=os.fsencode(root))
    processes = tmp_path / "proc"
    (processes / "sys" / "fs" / "inotify").mkdir(parents=True)
    return with_library(Subject(Settings(library), processes=processes))


def limit(subject: Subject, **limits: int) -> None:
    for name, value in limits.items():
        (subject.processes / "sys" / "fs" / "inotify" / name).write_text(f"{value}\n")


def in_use(processes: Path, *, watches: int) -> None:
    process = processes / "42"
    (process / "fd").mkdir(parents=True)
    (process / "fdinfo").mkdir()
    (process / "fd" / "3").symlink_to("anon_inode:inotify")
    (process / "fd" / "4").symlink_to("/dev/null")
    lines = "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0\n" * watches
    (process / "fdinfo" / "3").write_text(f"pos:\t0\nflags:\t00\n{lines}")


@pytest.mark.parametrize(("allowed", "verdict"), [(100, "good"), (16, "note"), (14, "bad")])
def test_folders_and_what_is_in_use_against_max_user_watches(
    subject: Subject, allowed: int, verdict: str
) -> None:
    in_use(subject.processes, watches=5)
    limit(subject, max_user_watches=allowed, max_user_instances=128, max_queued_events=16384)
    watches, instances, queue = look_at_inotify(subject)
    assert watches.verdict == verdict
    assert watches.what.endswith("10 folders to follow, 5 watches in use by others")
    assert watches.remedy == (None if verdict == "good" else raising("max_user_watches", 524_288))
    assert (instances.verdict, queue.verdict) == ("good", "good")


def test_few_instances_and_a_short_queue(subject: Subject) -> None:
    in_use(subject.processes, watches=1)
    limit(subject, max_user_watches=8192, max_user_instances=1, max_queued_events=512)
    watches, instances, queue = look_at_inotify(subject)
    assert watches.verdict == "good"
    assert instances.verdict == "bad"
    assert instances.remedy == (
        "echo fs.inotify.max_user_instances=1024 | sudo tee -a /etc/sysctl.d/60-siglip-search.conf"
        " && sudo sysctl -p /etc/sysctl.d/60-siglip-search.conf"
    )
    assert (queue.verdict, queue.remedy) == ("note", raising("max_queued_events", 16_384))


def test_a_watcher_that_runs_already_is_not_counted_twice(subject: Subject) -> None:
    in_use(subject.processes, watches=10)
    assert taken(subject.processes) == (1, 10)
    assert taken(subject.processes, but=42) == (0, 0)
    limit(subject, max_user_watches=20, max_user_instances=128, max_queued_events=16384)
    (watches, *_) = look_at_inotify(replace(subject, watcher_pid=42))
    assert watches.verdict == "good"


def test_a_machine_without_inotify_has_no_findings(subject: Subject, tmp_path: Path) -> None:
    assert list(look_at_inotify(replace(subject, processes=tmp_path / "nothing"))) == []


def test_counting_stops_and_says_so(subject: Subject) -> None:
    assert subject.library is not None
    path = subject.library.roots[0].root.path
    assert count_folders([path]) == (10, True)
    assert count_folders([path], hidden=True) == (12, True)
    assert count_folders([path], most=4) == (4, False)
    assert count_folders([path], limit_seconds=-1.0) == (0, False)
    assert count_folders([path + b"-gone"]) == (0, True)


def test_what_this_user_really_has_taken_is_seen() -> None:
    script = (
        "import ctypes, sys; c = ctypes.CDLL(None); fd = c.inotify_init();"
        "[c.inotify_add_watch(fd, path, 2) for path in (b'/', b'/proc', b'/dev')];"
        "print('there', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        instances, watches = taken(Path("/proc"))
        assert child.stdin is not None
        child.stdin.close()
    assert instances >= 1
    assert watches >= 3


@pytest.mark.parametrize(
    ("cpuinfo", "registered", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\nmodel name\t: AMD\n", {}, None),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", {}, "describes an ARM processor"),
        ("vendor_id\t: VirtualApple\n", {}, "Rosetta"),
        ("", {"qemu-x86_64": "enabled\ninterpreter /usr/bin/qemu-x86_64\n"}, "by qemu-x86_64"),
        ("", {"qemu-x86_64": "disabled\n"}, None),
        ("", {"qemu-aarch64": "enabled\n", "python3.12": "enabled\n"}, None),
    ],
)
def test_an_emulated_processor_shows(
    tmp_path: Path, cpuinfo: str, registered: dict[str, str], expected: str | None
) -> None:
    folder = tmp_path / "sys" / "fs" / "binfmt_misc"
    folder.mkdir(parents=True)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    for name, text in registered.items():
        (folder / name).write_text(text)
    how = emulated_on_linux(tmp_path)
    assert (how is None) if expected is None else (how is not None and expected in how)


def test_which_builds_have_x86_64_code() -> None:
    assert is_made_for_x86_64("win-amd64")
    assert is_made_for_x86_64("macosx-11.0-universal2")
    assert is_made_for_x86_64("linux-x86_64")
    assert not is_made_for_x86_64("win-arm64")
    assert not is_made_for_x86_64("linux-aarch64")
