"""The folders: may they be read and written, on which file system do they lie, is there room?"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_index.errors import NetworkFileSystemError
from siglip_index.local_disk import refuse_network_file_system
from siglip_search.engine.doctor_finding import Finding, readable_bytes
from siglip_search.errors import ModelError
from siglip_search.models.registry import registry_rows
from siglip_search.settings import models_directory, own_models_file, settings_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from siglip_search.engine.doctor_finding import Subject

# A write-ahead log may grow to 64 MB before it is folded in, and a commit needs some air.
ALWAYS_NEEDED_BYTES = 100_000_000
# Below this the watcher pauses.
COMFORTABLE_BYTES = 500_000_000

# Folders that a program keeps the same on several machines, file by file: half of a database.
_SYNCHRONISED = (
    *("Dropbox", "OneDrive", "Google Drive", "My Drive", "Nextcloud", "ownCloud", "pCloudDrive"),
    *("Mobile Documents", "CloudStorage", "iCloudDrive", "Syncthing"),
)


def look_at_settings(subject: Subject) -> Iterable[Finding]:
    """Tell whether the settings can be used."""
    error = subject.settings_error
    if error is not None:
        return [Finding("settings", "bad", str(error), error.hint)]
    file = settings_file()
    what = f"{file} is sound" if file.exists() else f"the defaults; {file} is not there"
    return [Finding("settings", "good", what)]


def look_at_own_models(_: Subject) -> Iterable[Finding]:
    """Tell whether the user's own rows of the registry can be used."""
    file = own_models_file()
    try:
        own = len(registry_rows(file)) - len(registry_rows())
    except ModelError as error:
        return [Finding("own models", "bad", str(error), error.hint)]
    if not file.exists():
        return [Finding("own models", "good", f"none; {file} is not there")]
    return [Finding("own models", "good", f"{file} is sound and adds {own}")]


def look_at_permissions(subject: Subject) -> Iterator[Finding]:
    """Tell which of the program's folders cannot be read or written by this user."""
    library = subject.directory
    if os.path.isfile(library):
        yield Finding("library folder", "bad", f"{library} is a file", "Name a folder: --library.")
    else:
        yield _access("library folder", library)
        yield from _unusable_files(library)
    yield _access("models folder", models_directory())
    yield _access("settings folder", settings_file().parent)


def look_at_runtime_folder(subject: Subject) -> Iterable[Finding]:
    """Tell whether a watcher could be reached here: its socket needs a folder of one's own."""
    folder = subject.runtime_directory
    if folder is None:
        return []
    finding = _access("runtime folder", folder)
    try:
        status = folder.stat()
    except OSError:
        return [finding]
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        what = f"{folder} belongs to another user: a watcher cannot be asked"
        return [Finding("runtime folder", "bad", what, f"sudo rm -r {shlex.quote(str(folder))}")]
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        what = f"{folder} can be looked into by other users"
        return [Finding("runtime folder", "note", what, f"chmod 700 {shlex.quote(str(folder))}")]
    return [finding]


def look_at_file_system(subject: Subject) -> Iterable[Finding]:
    """Tell whether the library lies where a database is safe."""
    directory = subject.directory
    try:
        refuse_network_file_system(directory)
    except NetworkFileSystemError as error:
        return [Finding("file system", "bad", str(error), error.hint)]
    parts = Path(os.path.realpath(directory)).parts
    synchronised = [part for part in parts if part.startswith(_SYNCHRONISED)]
    if synchronised:
        what = (
            f"{directory} lies in {synchronised[0]}, which may copy the database half written "
            "or put back an older one"
        )
        remedy = "Move the library's folder out, then name it: SIGLIP_SEARCH_LIBRARY or --library."
        return [Finding("file system", "note", what, remedy)]
    return [Finding("file system", "good", f"{directory} lies on a disk of this machine")]


def look_at_free_space(subject: Subject) -> Iterator[Finding]:
    """Compare the room on the library's disk with what the library needs."""
    folder = nearest_existing(subject.directory)
    free = shutil.disk_usage(folder).free
    # A snapshot is written beside the former one.
    snapshots = subject.library.disk_bytes["snapshots"] if subject.library is not None else 0
    needed = snapshots + ALWAYS_NEEDED_BYTES
    room = f"{readable_bytes(free)} free on the disk of {folder}"
    remedy = "Make room; `siglip-search prune` and `model remove` give back what is not needed."
    if free < needed:
        what = f"{room}; the library needs {readable_bytes(needed)} to work"
        yield Finding("free space", "bad", what, remedy)
    elif free < needed + COMFORTABLE_BYTES:
        yield Finding("free space", "note", f"{room}, which is little", remedy)
    else:
        yield Finding("free space", "good", room)
    if hasattr(os, "statvfs"):
        volume = os.statvfs(folder)
        # Some file systems (btrfs) make inodes as they need them, and say 0 of 0.
        if volume.f_files and not volume.f_favail:
            what = f"the disk of {folder} has room, but not for another file: no inodes are left"
            yield Finding("inodes", "bad", what, "Delete or pack together many small files.")


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    # By os.path: what lies in a folder that may not be entered is not there for this user.
    return next((place for place in (path, *path.parents) if os.path.exists(place)), path)


def is_allowed(path: Path, mode: int) -> bool:
    """Tell whether this process may do something with a path, without trying it.

    Args:
        path: It exists.
        mode: As for `os.access`.
    """
    if os.access in os.supports_effective_ids:
        return os.access(path, mode, effective_ids=True)
    return os.access(path, mode)


def _access(name: str, folder: Path) -> Finding:
    place = nearest_existing(folder)
    if not os.path.exists(place):
        return Finding(name, "bad", f"{folder}: its drive is not there", "Connect it.")
    if not place.is_dir():
        what = f"{place} is a file where a folder belongs"
        return Finding(name, "bad", what, "Move that file away.")
    if place == folder and not is_allowed(folder, os.R_OK | os.X_OK):
        return Finding(name, "bad", f"{folder} cannot be read", _remedy(folder))
    if not is_allowed(place, os.W_OK | os.X_OK):
        lacking = f"{folder} cannot be written" if place == folder else f"{folder} cannot be made"
        return Finding(name, "bad", lacking, _remedy(place))
    there = "" if place == folder else " (not there yet)"
    return Finding(name, "good", f"{folder} can be read and written{there}")


def _unusable_files(library: Path) -> Iterator[Finding]:
    """Yield what `sudo siglip-search` leaves: files of another user in a folder of one's own."""
    try:
        files = sorted(path for path in library.iterdir() if path.is_file())
    except OSError:
        return  # the folder's own finding says so
    refused = [path.name for path in files if not is_allowed(path, os.R_OK | os.W_OK)]
    if refused and is_allowed(library, os.W_OK | os.X_OK):
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        what = f"{library}: {refused[0]}{others} cannot be read and written by this user"
        yield Finding("library files", "bad", what, _remedy(library, whole=True))


def _remedy(folder: Path, *, whole: bool = False) -> str:
    if sys.platform == "win32":
        return (
            "Check the folder's permissions, and Windows Security > Ransomware protection > "
            "Controlled folder access."
        )
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} lies on a read-only file system: choose another place."
    quoted = shlex.quote(str(folder))
    return f'sudo chown {"-R " if whole else ""}"$(id -un)" {quoted} && chmod u+rwX {quoted}'
