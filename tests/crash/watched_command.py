"""`siglip-search watch` as a process of its own, to which bad things happen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installed_command import COMMAND

from siglip_search import demo

if TYPE_CHECKING:
    from collections.abc import Callable

    from installed_command import CommandLine

PATIENCE_SECONDS = 40.0


class WatchedCommand:
    """A daemon, what it says, and what its library finds.

    Args:
        cli: With its library.
        arguments: Of the command line.
        environment: What differs in the daemon's environment.
    """

    def __init__(
        self, cli: CommandLine, *arguments: str | Path, environment: dict[str, str] | None = None
    ) -> None:
        self.cli = cli
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [COMMAND, "watch", "--nice", "0", "--settle", "0.2", *arguments],
            env=cli.environment() | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line.rstrip())

    def says(self, words: str, *, times: int = 1) -> None:
        """Wait until so many lines have these words."""
        self.wait(lambda: sum(words in line for line in self.lines) >= times)

    def state(self) -> Any:
        return self.cli.status()["service"] or {"doing": "gone", "embedded": -1, "queue": -1}

    def is_idle(self) -> bool:
        state = self.state()
        return bool(state["doing"] == "idle" and state["queue"] == 0)

    def finds(self, *paths: Path) -> None:
        """Wait until everything that is found are these."""
        wanted = sorted(map(str, paths))
        self.wait(lambda: found(self.cli) == wanted)

    def wait(self, is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, (self.lines[-30:], self.cli.status())
            assert self.process.poll() is None, self.lines[-30:]
            time.sleep(0.05)

    def ended(self) -> int:
        """Wait for its end, which is its own doing, and return its status."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._listening.join()
        assert "Traceback" not in "\n".join(self.lines), self.lines
        return status

    def end(self) -> None:
        """Ask it to end, which it does as if nothing had happened to it."""
        self.process.send_signal(signal.SIGTERM)
        assert self.ended() == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listening.join()


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def found(cli: CommandLine) -> list[str]:
    """Return everything that the library finds, by a question."""
    paths = cli.paths("anything", "--min-probability", "0", "-n", "10000", "--all-files")
    return sorted(paths)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def add_drawing(folder: Path, number: int) -> Path:
    """Put a drawing of the gallery, from 12 on one that `pictures` has not, into a folder."""
    drawing = sorted(demo.gallery_directory().rglob("*.jpg"))[number]
    path = folder / f"drawing-{number}.jpg"
    shutil.copy(drawing, path)
    return path


class FailingDisk:
    """A disk and a clock that fail on demand, for processes with its environment.

    Args:
        folder: A folder for its parts.

    Raises:
        FileNotFoundError, subprocess.CalledProcessError: It cannot be made here.
    """

    def __init__(self, folder: Path) -> None:
        self._demand = folder / "demand"
        library = folder / "failing_disk.so"
        source = Path(__file__).with_name("failing_disk.c")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"],
            check=True,
            capture_output=True,
        )
        self.environment = {"LD_PRELOAD": str(library), "FAILING_DISK": str(self._demand)}

    def demand(self, line: str) -> None:
        """Fail from now on as the line says; see failing_disk.c."""
        new = self._demand.with_suffix(".new")
        new.write_text(f"{line}\n")
        new.replace(self._demand)

    def heal(self) -> None:
        """Fail no more."""
        self._demand.unlink()


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started; Linux only."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue
    return found


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use; 0 when it has ended. Linux only."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0
