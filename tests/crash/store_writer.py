"""A writer that is killed: commits batches, acknowledges each, and may end itself at a given step.

Run as a program: LIBRARY FIRST_BATCH BATCHES DIE_AT_STEP. Says "ack N STEPS" after the commit of
batch N returned, with the steps taken so far, and "end STEPS" before it ends by itself.
A step is a statement given to SQLite, or a call that writes, syncs, renames or removes a file.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stored_samples import fill

from siglip_index import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 2
STEPS = 0


def die() -> None:
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(directory: Path, first_batch: int, batches: int, die_at: int) -> None:
    store = open_store(directory, writable=True)

    def step(*_: object) -> None:
        global STEPS
        STEPS += 1
        if die_at == STEPS:
            die()

    def before_and_after(owner: Any, name: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def stepped(*arguments: Any, **options: Any) -> object:
            step()
            result = real(*arguments, **options)
            step()
            return result

        setattr(owner, name, stepped)

    store._database.conn.set_trace_callback(step)
    before_and_after(os, "fsync")
    for name in ("replace", "unlink", "open"):
        before_and_after(Path, name)
    for batch in range(first_batch, first_batch + batches):
        fill(store, BATCH, first=batch * BATCH)
        say(f"ack {batch} {STEPS}")
        if batch % 2 == 1:
            store.write_snapshot(force=True)
    say(f"end {STEPS}")
    store.close()


if __name__ == "__main__":
    library, *numbers = sys.argv[1:]
    main(Path(library), *(int(number) for number in numbers))
