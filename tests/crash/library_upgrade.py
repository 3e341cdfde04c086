"""An upgrade that is killed: opens a library of an older format and may end itself at a given step.

Run as a program: LIBRARY DIE_AT_STEP. Says "end STEPS" when the library is open. A step is a
statement given to SQLite, a part of the database's copy, or a call that syncs or renames a file.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from crash.store_writer import die, say

from siglip_index import backup, open_store

STEPS = 0
DIE_AT = 0


def step(*_: object) -> None:
    global STEPS
    STEPS += 1
    if STEPS == DIE_AT:
        die()


class SteppedConnection(sqlite3.Connection):
    """A connection whose every statement is a step, and every part of a copy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_trace_callback(step)

    def backup(self, target: sqlite3.Connection, **options: Any) -> None:
        super().backup(target, **(options | {"pages": 4, "progress": step}))


def before_and_after(owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def stepped(*arguments: Any, **options: Any) -> object:
        step()
        result = real(*arguments, **options)
        step()
        return result

    setattr(owner, name, stepped)


def main(library: Path, die_at: int) -> None:
    global DIE_AT
    DIE_AT = die_at
    connect = sqlite3.connect
    backup.sqlite3.connect = (  # type: ignore[attr-defined]
        lambda *arguments, **options: connect(*arguments, factory=SteppedConnection, **options)
    )
    before_and_after(os, "fsync")
    for name in ("replace", "unlink"):
        before_and_after(Path, name)
    store = open_store(library, writable=True)
    say(f"end {STEPS}")
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
