"""What a scan is asked for, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siglip_index.records import Companion, Fingerprint


@dataclass(frozen=True, slots=True)
class ScanRules:
    """Which files a scan leaves out.

    Attributes:
        exclude: gitignore-style patterns, relative to the root. They take precedence over
            every .siglipignore file, and those over the default list; "!pattern" takes a file
            back in.
        hidden: Whether files and folders whose name begins with a dot (or that Windows marks as
            hidden) are looked at.
        download_cloud: Whether files are taken that only the cloud has, and folders entered of
            which only the cloud has the list.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    download_cloud: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A part of a root.

    Attributes:
        within: File or folder of it, relative to it; empty for all of it.
        subfolders: Also what lies deeper; otherwise that file, or the files directly in that
            folder.
    """

    within: bytes = b""
    subfolders: bool = True


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A regular file that may be a picture.

    Attributes:
        path: Relative to the root, "/"-separated; b"" when the root is itself a file.
        fingerprint: As of the scan.
        device: st_dev of the file.
        companions: What belongs to it and is no picture of its own.
    """

    path: bytes
    fingerprint: Fingerprint
    device: int
    companions: tuple[Companion, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What lies below a root. Files left out by rules, and hidden ones, appear nowhere.

    Attributes:
        files: Regular files that may be pictures, in no particular order.
        ignored: How many files are no pictures by their name (videos, sidecars, text), or by
            their first bytes where the name has no extension, or that are no regular files.
        unreadable: Folders and files that could not be listed or looked at: root-relative path
            and reason. Nothing at or below them may be taken for deleted. When the scan was
            stopped, its starting point is here.
        devices: st_dev of every folder visited, and of those above it, by root-relative path; b""
            is the root.
        entries_at_root: How many names the root holds, hidden ones included; 0 when it is empty,
            as an unmounted drive looks, or missing.
        dangling_links: Root-relative paths of symbolic links that lead nowhere. A link to a
            folder on a drive that is not there looks like that, so nothing below them may be
            taken for deleted.
        companions: How many files belong to one of `files`; they count neither as files nor as
            ignored.
        online_only: Files that may be pictures and that only the cloud has; none of them was
            opened. A stub stands here under the name that its file will have.
        without_extra: Root-relative paths of the pictures that cannot be read before an extra is
            installed, by the extra; they do not count as ignored.
        left_out: Whether the rules leave out the very place that was to be looked at, so that
            nothing was.
    """

    files: list[SeenFile] = field(default_factory=list)
    ignored: int = 0
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    devices: dict[bytes, int] = field(default_factory=dict)
    entries_at_root: int = 0
    dangling_links: list[bytes] = field(default_factory=list)
    companions: int = 0
    online_only: list[SeenFile] = field(default_factory=list)
    without_extra: dict[str, list[bytes]] = field(default_factory=dict)
    left_out: bool = False
