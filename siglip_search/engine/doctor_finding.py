"""What a doctor's check is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from siglip_index.records import Root, Space, StoreCounts
    from siglip_search.errors import SettingsError
    from siglip_search.settings import Settings

Verdict = Literal["good", "note", "bad"]
"""Good; worth knowing, though everything works; keeps something from working."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was looked at, in a word or two, or a folder's path.
        verdict: How it is.
        what: One line.
        remedy: What to do, one line or a command; None where there is nothing to do.
    """

    name: str
    verdict: Verdict
    what: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What the library remembers of an indexed folder.

    Attributes:
        root: The folder.
        has_files: Whether the library knows a file in it that was there last time.
        in_future: Of its first few thousand files, how many claim to have been changed more than
            a day after now.
    """

    root: Root
    has_files: bool
    in_future: int


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """What the checks need of the library, read in one go.

    Attributes:
        counts: Pictures, files, failures.
        active: The embedding space that answers, None in a library without pictures.
        coming: The one that is being filled to take over, None when none is.
        online_only: Pictures that only a cloud has.
        roots: The indexed folders.
        failures: Why pictures could not be read, each reason once.
        disk_bytes: By kind of file: "database", "snapshots", "copies".
    """

    counts: StoreCounts
    active: Space | None
    coming: Space | None
    online_only: int
    roots: tuple[RootFacts, ...]
    failures: frozenset[str]
    disk_bytes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        settings: As they are in force; the defaults where the file has a mistake.
        settings_error: That mistake, None if there is none.
        library: What is in the library, None where there is none or it cannot be read.
        library_error: Why it cannot be read, None if it can or there is none.
        library_remedy: What can be done about that; "" if nothing.
        runtime_directory: Where a running watcher's address belongs; None where nobody asks.
        watcher_pid: Process of this library's watcher, None where none runs.
        processes: Where Linux shows its processes.
        system: Where Linux shows its devices.
    """

    settings: Settings
    settings_error: SettingsError | None = None
    library: LibraryFacts | None = None
    library_error: str | None = None
    library_remedy: str = ""
    runtime_directory: Path | None = None
    watcher_pid: int | None = None
    processes: Path = field(default=Path("/proc"))
    system: Path = field(default=Path("/sys"))

    @property
    def directory(self) -> Path:
        """Folder of the library."""
        return self.settings.library


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        section: Where its findings stand.
        name: For the finding that has to be made when the check itself fails.
        look: Reads, and changes nothing.
        limit_seconds: After it, what is looked at counts as not answering (a share whose server
            is gone, say), > 0.
    """

    section: str
    name: str
    look: Callable[[Subject], Iterable[Finding]]
    limit_seconds: float = 30.0


def readable_bytes(number: float) -> str:
    """Return "340 MB" or "1.2 GB"."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"
