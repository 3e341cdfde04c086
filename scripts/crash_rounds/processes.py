"""Processes of the program that are to be killed, and what is heard of them before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from crash_rounds import counted_command

STARTING_SECONDS = 60.0


class Place:
    """Where a library, its pictures and the records about it lie.

    Args:
        folder: Is made, if need be; its path is short, for a socket comes to lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self.library = folder / "library"
        self.record = folder / "record"
        for name in ("pictures", "run", "home"):
            (folder / name).mkdir(mode=0o700, parents=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes, which see nothing of the user's own."""
        scripts = Path(counted_command.__file__).resolve().parents[1]
        home = str(self.folder / "home")
        return {
            **os.environ,
            "HOME": home,
            "XDG_CONFIG_HOME": home,
            "XDG_DATA_HOME": home,
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "SIGLIP_SEARCH_MODEL": "demo",
            "PYTHONPATH": str(scripts),
            "PYTHONWARNINGS": "error",
        }

    def embeddings(self) -> int:
        """Return how many pictures were embedded."""
        try:
            return self.record.stat().st_size // counted_command.DIGEST_BYTES
        except FileNotFoundError:
            return 0

    def embedded(self) -> list[bytes]:
        """Return a digest of every picture that was embedded, in order."""
        size = counted_command.DIGEST_BYTES
        record = self.record.read_bytes() if self.record.exists() else b""
        return [record[start : start + size] for start in range(0, len(record), size)]


class Command:
    """A process of the program, whose output is listened to.

    Args:
        place: Where it works.
        arguments: Of the command line.

    Attributes:
        lines: What it wrote on stdout, line by line.
        errors: Likewise, on stderr.
    """

    def __init__(self, place: Place, *arguments: str | Path) -> None:
        program = [sys.executable, counted_command.__file__, place.record]
        self.process = subprocess.Popen(
            [*program, *arguments, "--library", place.library],
            env=place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        streams = [(self.process.stdout, self.lines), (self.process.stderr, self.errors)]
        self._listening = [
            threading.Thread(target=heard.extend, args=(stream,), daemon=True)
            for stream, heard in streams
            if stream is not None
        ]
        for thread in self._listening:
            thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def says(self, words: str, seconds: float = STARTING_SECONDS) -> bool:
        """Wait until it says something on stderr; False when it ended, or did not say it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(words in line for line in [*self.errors]):
                return True
            if not self.is_running:
                return False
            time.sleep(0.005)
        return False

    def committed(self) -> set[Path]:
        """Return the pictures that it told to be committed (`--json-events`)."""
        paths: set[Path] = set()
        for line in [*self.lines]:
            if line.endswith("\n"):  # a line that was cut off was not heard
                event = json.loads(line)
                if event["event"] == "committed":
                    paths.update(map(Path, event["paths"]))
        return paths

    def children(self) -> list[int]:
        """Return the processes that it has started."""
        found: list[int] = []
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            try:
                found += map(int, file.read_text().split())
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """End it as nothing can prevent, and hear it out."""
        self.process.kill()
        self.end()

    def end(self, seconds: float = STARTING_SECONDS) -> int:
        """Wait for its end and return its status.

        Raises:
            subprocess.TimeoutExpired: It does not end.
        """
        status = self.process.wait(seconds)
        for thread in self._listening:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return int(status)


def have_ended(processes: list[int], seconds: float) -> bool:
    """Wait until these processes are gone; tell whether they are."""
    deadline = time.monotonic() + seconds
    while any(_is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False
