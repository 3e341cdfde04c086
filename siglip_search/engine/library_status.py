"""What is in a library, as `status` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index.records import StoreCounts

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_index.local_store import LocalStore
    from siglip_index.records import SpaceUsage


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What is in a library.

    Attributes:
        directory: Where it lies.
        counts: Pictures, files, failures.
        model: Name of the active model, None in a library without pictures.
        coming: Name of the model that takes over once it has embedded every picture.
        spaces: What each model's vectors take, those kept from former models included.
        roots: Indexed folders, absolute, as bytes on disk.
        failures: Absolute path and reason of each picture that could not be read.
        disk_bytes: Size of the library's own files.
    """

    directory: Path
    counts: StoreCounts
    model: str | None
    coming: str | None
    spaces: tuple[SpaceUsage, ...]
    roots: tuple[bytes, ...]
    failures: tuple[tuple[bytes, str], ...]
    disk_bytes: int


def status_of(directory: Path, store: LocalStore | None) -> LibraryStatus:
    """Return what is in a library.

    Args:
        directory: Where it lies.
        store: The library; None where there is none yet, which gives zeros.
    """
    if store is None:
        return LibraryStatus(directory, StoreCounts(), None, None, (), (), (), 0)
    active, coming = store.active_space(), store.coming_space()
    return LibraryStatus(
        directory=directory,
        counts=store.counts(),
        model=active.model if active else None,
        coming=coming.model if coming else None,
        spaces=tuple(store.space_usage()),
        roots=tuple(root.path for root in store.roots()),
        failures=tuple(store.failures()),
        disk_bytes=sum(store.disk_usage().values()),
    )
