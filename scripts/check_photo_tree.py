"""Index a generated tree of 20,000 files and compare everything with the tree's own truth.

    python scripts/check_photo_tree.py
    python scripts/check_photo_tree.py --files 2000 --seed 7 --keep FOLDER

The installed command indexes the tree into a new library; then once more; then the tree is renamed,
relocated, and indexed a third time. Every count, every list, the files of each picture and what the
library knows of it are compared with truth.json (scripts/make_photo_tree.py). Prints a table, the
times, and each difference; the exit status is 1 if there is one. The bundled model embeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from make_photo_tree import DEFAULT_FILES, ELSEWHERE, PICTURES, make
from photo_tree.comparison import (
    Comparison,
    compare_first_run,
    compare_later_run,
    compare_library,
    compare_status,
)

COMMAND = Path(sys.executable).with_name("siglip-search" + (".exe" if os.name == "nt" else ""))

SHOWN_DIFFERENCES = 40


class Commands:
    """Runs siglip-search with a library of its own, and keeps the time.

    Attributes:
        seconds: What was run -> how long it took.
    """

    def __init__(self, folder: Path) -> None:
        self._library = folder / "library"
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, *arguments: str | Path) -> bytes:
        """Run a command.

        Raises:
            subprocess.CalledProcessError: It failed; what it said is shown already.
        """
        started = time.monotonic()
        done = subprocess.run(
            [COMMAND, *arguments],
            env={**os.environ, "SIGLIP_SEARCH_LIBRARY": str(self._library)},
            stdout=subprocess.PIPE,
            check=True,
        )
        self.seconds[what] = time.monotonic() - started
        return done.stdout

    def index(self, what: str, *paths: Path) -> dict[str, Any]:
        """Index and return the report."""
        report: dict[str, Any] = json.loads(
            self(what, "index", "--model", "demo", "--json", *paths)
        )
        return report


def check(folder: Path, *, files: int, seed: int) -> tuple[Comparison, dict[str, float]]:
    """Make a tree, index it and compare; return what was found, and how long each step took.

    Args:
        folder: Gets the tree and the library.
        files: As for `make_photo_tree.make`.
        seed: Likewise.
    """
    started = time.monotonic()
    truth = make(folder, files=files, seed=seed)
    commands = Commands(folder)
    commands.seconds["the tree"] = time.monotonic() - started
    comparison = Comparison()
    root = folder / PICTURES
    compare_first_run(comparison, truth, commands.index("first run", root), str(root))
    status = json.loads(commands("status", "status", "--failed", "--json"))
    compare_status(comparison, truth, status, str(root))
    lines = commands("export", "export", "--to", "jsonl", "--no-vectors", "-").splitlines()
    compare_library(comparison, truth, [json.loads(line) for line in lines], str(root))
    compare_later_run(comparison, "again", truth, commands.index("second run", root))
    moved = root.rename(folder / f"{PICTURES} moved")
    commands("relocating", "roots", "relocate", root, moved)
    compare_later_run(comparison, "moved", truth, commands.index("run after moving"))
    lines = commands("export", "export", "--to", "jsonl", "--no-vectors", "-").splitlines()
    compare_library(comparison, truth, [json.loads(line) for line in lines], str(moved))
    commands("verify", "verify")
    return comparison, commands.seconds


def main() -> None:
    """Check and print; end with 1 where something is not as the truth says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=DEFAULT_FILES, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary, "tree")
        if (folder / PICTURES).exists() or (folder / ELSEWHERE).exists():
            sys.exit(f"{folder} has a tree already: name a new folder")
        comparison, seconds = check(folder.absolute(), files=options.files, seed=options.seed)
    print(comparison.table())
    print()
    for what, duration in seconds.items():
        print(f"{what:20}{duration:8.1f} s")
    for difference in comparison.differences[:SHOWN_DIFFERENCES]:
        print(f"not as the truth says: {difference}")
    if comparison.differences:
        sys.exit(f"{len(comparison.differences):,} differences")


if __name__ == "__main__":
    main()
