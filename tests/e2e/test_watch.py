"""`siglip-search watch` in a process of its own, with real folders and other commands beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from siglip_search import demo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

PATIENCE_SECONDS = 40.0


class Watching:
    """A daemon of the installed command."""

    def __init__(self, cli: CommandLine, *arguments: str | Path) -> None:
        self.cli = cli
        self.lines: list[str] = []
        self.process = cli.start("watch", "--nice", "0", "--settle", "0.3", *arguments)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def caught_up(self) -> Watching:
        self.wait(lambda: any("caught up:" in line for line in self.lines))
        # What was just named is followed once it is in the library.
        self.wait(lambda: self.state()["doing"] == "idle" and self.state()["folders"])
        return self

    def state(self) -> Any:
        return self.cli.status()["service"] or {"doing": "gone", "embedded": 0}

    def wait(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, (self.lines, self.cli.status())
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)

    def finds(self, *paths: Path) -> None:
        """Wait until everything that is found are these."""
        wanted = sorted(map(str, paths))
        self.wait(lambda: sorted(everything(self.cli)) == wanted)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_SECONDS)
        self._listening.join()
        return status

    def close(self) -> None:
        self.process.kill()
        self._listening.join()
        self.process.communicate()


def everything(cli: CommandLine) -> list[str]:
    return cli.paths("anything", "--min-probability", "0", "-n", "1000", "--all-files")


@pytest.fixture
def watch(
    cli: CommandLine, cleanup: Callable[[Callable[[], object]], None]
) -> Callable[..., Watching]:
    def start(*arguments: str | Path) -> Watching:
        watching = Watching(cli, *arguments)
        cleanup(watching.close)
        return watching

    return start


def in_(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_happens_in_a_folder_is_found_seconds_later(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path, tmp_path: Path
) -> None:
    spare = tmp_path / "spare.jpg"
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[20], spare)
    watching = watch("--model", "demo", pictures).caught_up()
    watching.finds(*in_(pictures))
    state = watching.state()
    assert (state["model"], state["device"], state["precision"]) == ("demo", "cpu", "fp32")

    shutil.copy(spare, pictures / "new.jpg")
    watching.finds(*in_(pictures))
    (pictures / "picture-00.jpg").unlink()
    watching.finds(*in_(pictures))

    # A folder that is renamed costs no embedding, nor does what comes into it from elsewhere.
    embedded = watching.state()["embedded"]
    album = pictures / "album"
    album.mkdir()
    for number in range(1, 6):
        (pictures / f"picture-{number:02}.jpg").rename(album / f"{number}.jpg")
    watching.finds(*in_(pictures))
    album.rename(pictures / "holidays")
    watching.finds(*in_(pictures))
    assert watching.state()["embedded"] == embedded == 13

    # A slow writer, whose file is broken until it is whole.
    content = (pictures / "picture-08.jpg").read_bytes()
    extra = b"\xff\xfe\x00\x08slowly"  # a comment, so that the content is another one
    whole = content[:2] + extra + content[2:]
    with (pictures / "slow.jpg").open("wb") as file:
        for start in range(0, len(whole), len(whole) // 5):
            file.write(whole[start : start + len(whole) // 5])
            file.flush()
            time.sleep(0.2)
    watching.finds(*in_(pictures))
    state = cli.status()
    assert (state["failed"], state["service"]["embedded"]) == (0, 14)

    started = time.monotonic()
    assert watching.end() == 0
    assert time.monotonic() - started < 5
    assert watching.lines[-1].endswith("stopped")
    # No line for an event, one for what a run did.
    assert len(watching.lines) < 30
    assert (cli.library / "logs" / "watch.log").read_text().count("\n") == len(watching.lines)
    cli.verify()
    again = cli.index(pictures)
    assert (again["added"], again["removed"], again["embedded"]) == (0, 0, 0)


def test_other_commands_work_beside_it(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(6):
        (pictures / f"picture-{number:02}.jpg").rename(more / f"{number}.jpg")
    watching = watch("--model", "demo", pictures).caught_up()

    second = cli("watch", pictures, expect=2)
    assert str(watching.process.pid) in second.stderr

    # A folder is handed over, and followed from then on.
    report = cli("index", "--json", more).json
    assert (report["added"], report["embedded"]) == (6, 6)
    watching.wait(lambda: len(watching.state()["folders"]) == 2)
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[30], more / "new.jpg")
    watching.finds(*in_(pictures), *in_(more))

    # An error reaches the command, and harms nobody.
    refused = cli("index", tmp_path / "nowhere", expect=2)
    assert "nowhere" in refused.stderr

    # Those that write do so while it steps aside, and it acts on what they did.
    cli("roots", "exclude", more, "new.jpg")
    watching.finds(*in_(pictures), *[path for path in in_(more) if path.name != "new.jpg"])
    cli("forget", more)
    watching.wait(lambda: len(watching.state()["folders"]) == 1)
    watching.finds(*in_(pictures))
    assert not any("busy" in line for line in watching.lines)
    assert watching.end(signal.SIGINT) == 0
    cli.verify()


def test_killed_it_begins_again_where_it_was(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path
) -> None:
    watching = watch("--model", "demo", pictures).caught_up()
    children = children_of(watching.process.pid)
    assert watching.end(signal.SIGKILL) == -signal.SIGKILL
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[20], pictures / "meanwhile.jpg")
    deadline = time.monotonic() + 10
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    # Nothing stands in its way, and a question is answered without it.
    assert len(everything(cli)) == 12
    again = watch().caught_up()
    again.finds(*in_(pictures))
    assert again.state()["embedded"] == 1
    assert again.end() == 0
    cli.verify()


def children_of(pid: int) -> list[int]:
    command = ["ps", "-o", "pid=", "--ppid", str(pid)]
    done = subprocess.run(command, capture_output=True, check=False)
    return [int(line) for line in done.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def test_a_folder_that_goes_away_loses_nothing(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path, tmp_path: Path
) -> None:
    watching = watch("--model", "demo", pictures).caught_up()
    known = in_(pictures)
    away = tmp_path / "unplugged"
    pictures.rename(away)
    watching.wait(lambda: watching.state()["folders"][0]["how"] == "away")
    time.sleep(1.5)
    watching.finds(*known)
    (away / "picture-00.jpg").unlink()
    away.rename(pictures)
    watching.finds(*in_(pictures))
    assert watching.state()["folders"][0]["how"] == "events"
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[20], pictures / "back.jpg")
    watching.finds(*in_(pictures))
    assert watching.state()["embedded"] == 13
    assert watching.end() == 0


def test_without_folders_it_waits_for_them(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path
) -> None:
    watching = watch("--json-logs", "--model", "demo")
    watching.wait(lambda: watching.state()["doing"] == "idle")
    # With --model the command works by itself, and what it did is noticed.
    assert cli.index(pictures)["added"] == 12
    watching.finds(*in_(pictures))
    assert watching.end() == 0
    lines = [json.loads(line) for line in watching.lines]
    assert {"time", "level", "message"} <= set.intersection(*(set(line) for line in lines))
    assert lines[-1]["message"] == "stopped"


def test_purge_ends_it_and_leaves_nothing(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path
) -> None:
    watching = watch("--model", "demo", pictures).caught_up()
    cli("purge", "--yes")
    assert watching.process.wait(PATIENCE_SECONDS) == 0
    assert not cli.library.exists()
    assert len(in_(pictures)) == 12


def test_a_path_that_is_not_there_is_told_at_once(cli: CommandLine, tmp_path: Path) -> None:
    done = cli("watch", "--model", "demo", tmp_path / "nowhere", expect=2)
    assert "there is no file or folder" in done.stderr


@pytest.mark.shared_data
def test_every_hostile_picture_is_accounted_for(
    cli: CommandLine, watch: Callable[..., Watching], pictures: Path, shared_data: Path
) -> None:
    watching = watch("--model", "demo", pictures).caught_up()
    every = sorted(path for path in (shared_data / "hostile").rglob("*") if is_hostile(path))
    hostile = every[:: max(1, len(every) // 150)]
    assert hostile
    for number, path in enumerate(hostile):
        shutil.copy(path, pictures / f"{number:03}{path.suffix}")
    watching.wait(lambda: watching.state()["queue"] == 0 and watching.state()["looks"] > 0)
    watching.wait(lambda: watching.state()["doing"] == "idle")
    assert watching.end() == 0
    report = cli.index(pictures)
    assert (report["added"], report["removed"], report["pending"]) == (0, 0, 0)
    assert report["seen"] == len(in_(pictures))
    cli.verify()


def is_hostile(path: Path) -> bool:
    is_picture = path.suffix.lower() in {".jpg", ".jpeg", ".png", ".gif", ".tif", ".webp", ".heic"}
    return is_picture and path.is_file() and path.stat().st_size < 2_000_000
