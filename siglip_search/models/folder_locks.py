"""Who is at work among the models: locks that end with their process, whatever becomes of it.

A model's lock is held while it is fetched or removed. A folder that is being filled or taken away
has a lock of its own beside it, so that what a killed process left can be told from what a living
one needs.

No system but Linux exchanges two folders in one step. So the former folder steps aside into one
that is marked, the new one takes its name, and only then is the former deleted. Whoever comes upon
such a mark without its process puts the former back where nothing has taken its place.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from siglip_index.durable_files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STAGING_PREFIX: Final = ".adding-"
REMOVAL_PREFIX: Final = ".removing-"
REPLACING_PREFIX: Final = ".replacing-"
"""Begins the name of the folder in which a folder waits until another has its name."""
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
        prefix: Begins its name: one of those above, and perhaps more.

    Raises:
        OSError: If it cannot be made.
    """
    from filelock import FileLock

    folder = parent / f"{prefix}{os.urandom(6).hex()}"
    path = _lock_of(folder)
    # Before the folder: one that has no lock yet would look like a dead process's.
    lock = FileLock(path)
    lock.acquire()
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        gone = _discard(folder)
        lock.release()
        if gone:
            _delete(path)


def replace_folder(staged: Path, target: Path) -> None:
    """Give a folder its name, in place of an older one, and delete that one.

    Whenever the process is killed: `restore_replaced` finds one of the two, whole, under the name.

    Args:
        staged: A complete folder, on disk already, on the file system of `target`.
        target: The name.

    Raises:
        OSError: If it cannot be done; the older one has its name then.
    """
    with claimed_folder(target.parent, REPLACING_PREFIX) as aside:
        if target.exists():
            target.rename(aside / target.name)
        staged.rename(target)
        # The old one is deleted only when the new one has its name, on disk too.
        sync_directory(target.parent)


def restore_replaced(parent: Path) -> None:
    """Give the folders in `parent` that a killed process had put aside their names back.

    One whose place was taken is deleted. What cannot be done now is left for the next time.
    """
    # This happens wherever models are looked for: without leftovers it costs a listing.
    _clear(parent, REPLACING_PREFIX)


def clear_leftovers(parent: Path) -> None:
    """Delete what killed processes left of the folders that they had claimed in `parent`.

    What cannot be deleted stays, for the next time. Only folders with a lock beside them are
    touched: nothing else is surely ours.
    """
    for prefix in (REPLACING_PREFIX, STAGING_PREFIX, REMOVAL_PREFIX):
        _clear(parent, prefix)


def _clear(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*{_LOCK_SUFFIX}"):
        from filelock import FileLock, Timeout

        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # somebody is at work there, or it is another user's
            continue
        gone = _discard(path.with_name(path.name.removesuffix(_LOCK_SUFFIX)))
        lock.release()
        if gone:
            _delete(path)


def _discard(folder: Path) -> bool:
    """Delete a claimed folder, but nothing that still has to get its name back.

    Returns:
        Whether it is gone.
    """
    try:
        if folder.name.startswith(REPLACING_PREFIX):
            _put_back(folder)
    except OSError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _put_back(folder: Path) -> None:
    for former in list(folder.iterdir()) if folder.is_dir() else ():
        if former.name.startswith("."):
            continue
        target = folder.with_name(former.name)
        if target.exists():
            # Another name first: half of it must never pass for the whole, should the deletion
            # be cut short and its successor removed.
            former.rename(folder / f".{former.name}")
        else:
            former.rename(target)
            sync_directory(folder.parent)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK_SUFFIX}")


def _delete(lock_file: Path) -> None:
    # On Windows it is gone already, or another process is just trying it.
    with suppress(OSError):
        lock_file.unlink()
