"""A folder of links to pictures, with a list of those that were made here.

Only links in the list are ever taken away again, and only while they still are what was made. A
picture is never touched.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_index.durable_files import write_durably
from siglip_index.locations import relative_to
from siglip_search.errors import PathError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

MANIFEST: Final = ".siglip-search-album.json"
_IGNORE_FILE: Final = ".siglipignore"


@dataclass(frozen=True, slots=True)
class AlbumReport:
    """What became of an album.

    Attributes:
        folder: The album.
        pictures: How many it shows now.
        added: Links that were made.
        removed: Links that were taken away.
        refused: Pictures to which no link could be made.
    """

    folder: str
    pictures: int
    added: int = 0
    removed: int = 0
    refused: int = 0


def require_album(folder: Path, roots: Iterable[bytes] = ()) -> None:
    """Check that a folder is an album, or empty, or can be made.

    Args:
        folder: Absolute path.
        roots: Paths of the indexed folders.

    Raises:
        PathError: It is a file, holds other files, cannot be read, or an indexed folder is in it:
            nothing below an album is indexed.
    """
    for root in roots:
        if relative_to(root, os.fsencode(folder)) is not None:
            raise PathError(
                f"the indexed folder {os.fsdecode(root)} lies at {folder}",
                hint="Name a folder for the album that is new, inside of it or elsewhere.",
            )
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PathError(
            f"the album {folder} cannot be read: {error.strerror}", hint="Name a folder."
        ) from error
    if names and MANIFEST not in names:
        raise PathError(
            f"{folder} holds files already",
            hint="Name a new folder for the album, or an empty one.",
        )


def make_album(folder: Path) -> None:
    """Make an album that shows nothing, or leave the one that is there.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # First of all: a folder with links and without a list would be nobody's.
    if not (folder / MANIFEST).exists():
        _write_manifest(folder, {})
    with suppress(FileExistsError), (folder / _IGNORE_FILE).open("x", encoding="utf-8") as file:
        file.write("# An album of links; its pictures are indexed where they are.\n*\n")


def fill_album(
    folder: Path, pictures: Sequence[str], stop: threading.Event | None = None
) -> AlbumReport:
    """Have a folder show exactly these pictures, by links.

    A picture that is gone is left out; where its whole folder is away, with a drive perhaps, the
    link to it stays for its return.

    Args:
        folder: The album; see `make_album`.
        pictures: Absolute paths.
        stop: When set, the rest is left for the next time.

    Raises:
        OSError: The folder cannot be written to.
    """
    listed = _manifest(folder)
    linked = {
        name: path for name, path in listed.items() if _is_link_to(os.path.join(folder, name), path)
    }
    wanted = dict.fromkeys(_that_can_be_shown(folder, pictures, set(linked.values())))
    kept = dict(linked)
    removed = 0
    for name, path in linked.items():
        if _is_set(stop):
            break
        if path not in wanted and _unlink(os.path.join(folder, name), path):
            del kept[name]
            removed += 1
    shown = {path for path in kept.values() if path in wanted}
    names = _FreeNames(os.listdir(folder))
    added = refused = 0
    for path in wanted:
        if _is_set(stop):
            break
        if path in shown:
            continue
        name = os.path.basename(path)
        # A run that was killed has made links that are not in its list.
        if name in kept or not _is_link_to(os.path.join(folder, name), path):
            name = names.take(name)
            if not _link(os.path.join(folder, name), path):
                refused += 1
                continue
            added += 1
        kept[name] = path
        shown.add(path)
    if kept != listed:
        _write_manifest(folder, kept)
    return AlbumReport(str(folder), len(shown), added, removed, refused)


def _is_set(stop: threading.Event | None) -> bool:
    return stop is not None and stop.is_set()


def _that_can_be_shown(folder: Path, pictures: Iterable[str], linked: set[str]) -> Iterable[str]:
    album = os.path.realpath(folder)
    are_inside: dict[str, bool] = {}
    for path in pictures:
        parent = os.path.dirname(path)
        if parent not in are_inside:
            are_inside[parent] = os.path.realpath(parent) == album
        # A picture that lies in the album would be taken for a link to itself.
        if not are_inside[parent] and (
            os.path.lexists(path) or (path in linked and not os.path.lexists(parent))
        ):
            yield path


def _manifest(folder: Path) -> dict[str, str]:
    """Return the links that were made, by name."""
    try:
        value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        links = {str(name): str(path) for name, path in value["links"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise OSError(f"its list {MANIFEST} cannot be read ({error}); delete the folder") from error
    # A name with a separator would lead out of the folder.
    return {name: path for name, path in links.items() if os.path.basename(name) == name}


def _is_link_to(link: str, path: str) -> bool:
    try:
        if os.path.islink(link):
            return without_prefix(os.readlink(link)) == path
        # A hard link: another name of the picture, and not the picture itself.
        return os.path.samefile(link, path) and os.path.realpath(link) != os.path.realpath(path)
    except (OSError, ValueError):
        return False


def without_prefix(target: str) -> str:
    r"""Return where a link leads as it was given: Windows puts \\?\ before it."""
    if target.startswith("\\\\?\\UNC\\"):
        return "\\\\" + target.removeprefix("\\\\?\\UNC\\")
    return target.removeprefix("\\\\?\\")


def _unlink(link: str, path: str) -> bool:
    """Take a link away; a hard link only while the picture itself is there. Tell whether it is."""
    if not _is_link_to(link, path):
        return False
    try:
        os.unlink(link)
    except OSError as error:
        _log.warning("The link %s was not taken away: %s", link, error)
        return False
    return True


def _link(link: str, path: str) -> bool:
    with suppress(OSError, NotImplementedError):
        os.symlink(path, link)
        return True
    # Windows lets only some people make symbolic links.
    with suppress(OSError, NotImplementedError):
        os.link(path, link)
        return True
    return False


class _FreeNames:
    """Names that are free in a folder.

    Args:
        taken: Names that are not.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        # File systems that make no difference between cases would take the second for the first.
        self._taken = {name.casefold() for name in taken}
        self._last: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return a name like this one that was free, with a number if need be."""
        stem, ending = os.path.splitext(name)
        free, number = name, self._last.get(name.casefold(), 1)
        while free.casefold() in self._taken:
            number += 1
            free = f"{stem}-{number}{ending}"
        self._last[name.casefold()] = number
        self._taken.add(free.casefold())
        return free


def _write_manifest(folder: Path, links: dict[str, str]) -> None:
    # ASCII: a path that is not text survives as escaped surrogates.
    text = json.dumps({"links": links}, indent=1).encode("ascii")
    write_durably(folder / MANIFEST, lambda file: file.write(text))
