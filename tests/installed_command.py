"""The installed command, run as a user does: its own process, real files, a real library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("siglip-search" + (".exe" if os.name == "nt" else ""))


@dataclass
class Outcome:
    """What a command did."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class CommandLine:
    """Runs siglip-search with a library of its own."""

    library: Path

    def __call__(self, *arguments: str | bytes | Path, expect: int | None = 0) -> Outcome:
        done = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        if expect is not None:
            assert outcome.status == expect, (outcome.text, outcome.stderr)
        assert "Traceback" not in outcome.stderr, outcome.stderr
        return outcome

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        # Warnings are errors in the commands as well.
        return {
            **os.environ,
            "SIGLIP_SEARCH_LIBRARY": str(self.library),
            "PYTHONWARNINGS": "error",
        }

    def index(self, *arguments: str | bytes | Path, expect: int | None = 0) -> Any:
        return self("index", "--model", "demo", "--json", *arguments, expect=expect).json

    def paths(self, words: str, *arguments: str) -> list[str]:
        done = self("query", "-0", *arguments, words, expect=None)
        assert done.status in {0, 1}, done.stderr
        return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]

    def status(self) -> Any:
        return self("status", "--json").json

    def verify(self) -> None:
        self("verify")
