"""A first run that takes its time: the newest first, found meanwhile, stopped and continued."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from siglip_search import demo

if TYPE_CHECKING:
    from collections.abc import Callable

    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")

NEWER_THAN_ORDER = 16  # pictures in work at the same time may overtake one another

# The command itself, with a snapshot after each commit instead of one a minute.
EAGER_SNAPSHOTS = """
from siglip_search.engine import snapshots_amid_run
snapshots_amid_run.MIN_SECONDS_BETWEEN = snapshots_amid_run.PAUSE_SHARE = 0.0
from siglip_search.cli import main
main()
"""

OPTIONS = ["index", "--model", "demo", "--json-events", "--jobs", "1"]


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Two folders whose pictures take turns in age; the last of the second is the newest."""
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
    pictures = sorted(path for path in demo.gallery_directory().rglob("*") if path.suffix == ".jpg")
    for number, picture in enumerate(pictures):
        copy = roots[number % 2] / f"{number:03}.jpg"
        shutil.copyfile(picture, copy)
        os.utime(copy, (1_700_000_000 + 60 * number,) * 2)
    return roots


@pytest.fixture
def stopped_run(
    cli: CommandLine, roots: list[Path], cleanup: Callable[[Callable[[], object]], None]
) -> tuple[subprocess.Popen[str], list[str]]:
    """A run that is stopped as by Ctrl-Z after its first commit, and what that brought."""
    process = subprocess.Popen(
        [sys.executable, "-c", EAGER_SNAPSHOTS, *OPTIONS, *map(str, roots)],
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        process.kill()
        process.communicate()

    cleanup(end)
    assert process.stdout is not None
    event = json.loads(process.stdout.readline())
    manifests = list(cli.library.rglob("*.json"))
    while not manifests:  # the snapshot comes right after
        time.sleep(0.01)
        manifests = list(cli.library.rglob("*.json"))
    os.kill(process.pid, signal.SIGSTOP)
    return process, event["paths"]


def test_the_newest_of_all_roots_come_first_and_are_found_while_the_rest_waits(
    cli: CommandLine, roots: list[Path], stopped_run: tuple[subprocess.Popen[str], list[str]]
) -> None:
    process, paths = stopped_run
    everything = sorted((path for root in roots for path in root.iterdir()), key=lambda p: p.name)
    total = len(everything)
    assert 0 < len(paths) < total
    newest = {str(path) for path in everything[-len(paths) - NEWER_THAN_ORDER :]}
    assert set(paths) <= newest
    assert {Path(path).parent for path in paths} == set(roots)

    found = cli.paths("snow", "--min-probability", "0", "-n", "200")
    assert set(paths) <= set(found)
    assert len(found) < total
    assert process.poll() is None

    os.kill(process.pid, signal.SIGCONT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    finished = json.loads(out.splitlines()[-1])
    assert (finished["added"], finished["failed"]) == (total, 0)
    assert len(cli.paths("snow", "--min-probability", "0", "-n", "200")) == total
    cli.verify()


def test_only_the_newest_and_then_the_rest(cli: CommandLine, roots: list[Path]) -> None:
    total = sum(len(list(root.iterdir())) for root in roots)
    first = cli.index("--newest", "10", *roots)
    assert (first["added"], first["pending"]) == (10, total - 10)
    names = sorted(Path(path).name for path in cli.paths("x", "--min-probability", "0", "-n", "99"))
    assert names == [f"{number:03}.jpg" for number in range(total - 10, total)]
    second = cli.index()
    assert (second["added"], second["unchanged"], second["pending"]) == (total - 10, 10, 0)
