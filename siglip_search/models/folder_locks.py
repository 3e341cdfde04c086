"""Who is at work among the models: locks that end with their process, whatever becomes of it.

A model's lock is held while it is fetched or removed. A folder that is being filled or taken away
has a lock of its own beside it, so that what a killed process left can be told from what a living
one needs.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STAGING_PREFIX: Final = ".adding-"
REMOVAL_PREFIX: Final = ".removing-"
PULLING_PREFIX: Final = ".pulling-"
"""Begins the name of the folder that holds what has been fetched of a model so far."""

_LOCK_SUFFIX: Final = ".lock"


@contextmanager
def model_lock(
    models_dir: Path,
    name: str,
    on_wait: Callable[[], None] | None = None,
    *,
    forget: bool = False,
) -> Iterator[None]:
    """Hold a model's name.

    Args:
        models_dir: Folder with one folder per model.
        name: The model's name, which must be safe as a file's.
        on_wait: Called when another process holds it, before waiting; may raise instead.
        forget: Delete the lock's file at the end, which otherwise stays behind and means nothing.

    Raises:
        OSError: If the lock's file cannot be made.
    """
    from filelock import FileLock, Timeout

    path = models_dir / f"{PULLING_PREFIX}{name}{_LOCK_SUFFIX}"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        if forget:
            _delete(path)


@contextmanager
def claimed_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that nobody else clears away; what is left of it is deleted at the end.

    Args:
        parent: Where it is made.
        prefix: Begins its name: `STAGING_PREFIX` or `REMOVAL_PREFIX`, and perhaps more.

    Raises:
        OSError: If it cannot be made.
    """
    from filelock import FileLock

    folder = parent / f"{prefix}{secrets.token_hex(6)}"
    path = _lock_of(folder)
    # Before the folder: one that has no lock yet would look like a dead process's.
    lock = FileLock(path)
    lock.acquire()
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _delete(path)


def clear_leftovers(parent: Path) -> None:
    """Delete what killed processes left of the folders that they had claimed in `parent`.

    What cannot be deleted stays, for the next time. Only folders with a lock beside them are
    touched: nothing else is surely ours.
    """
    from filelock import FileLock, Timeout

    for prefix in (STAGING_PREFIX, REMOVAL_PREFIX):
        for path in parent.glob(f"{prefix}*{_LOCK_SUFFIX}"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):  # somebody is at work there, or it is another user's
                continue
            folder = path.with_name(path.name.removesuffix(_LOCK_SUFFIX))
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            if not folder.exists():
                _delete(path)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK_SUFFIX}")


def _delete(lock_file: Path) -> None:
    # On Windows it is gone already, or another process is just trying it.
    with suppress(OSError):
        lock_file.unlink()
