"""Found pictures as files of a folder: copies of them, or links to them."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final

from siglip_index.durable_files import TEMPORARY_SUFFIX
from siglip_search.errors import PathError, UnreadablePictureError
from siglip_search.photos.fingerprint import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_COMPARED_BYTES: Final = 1 << 20
# What file systems and Windows answer that know no links, or allow none: FAT, exFAT, some network
# drives, and Windows without developer mode (1314, which Python has no number for: EINVAL).
_NO_LINKS: Final = frozenset(
    getattr(errno, name)
    for name in ("EPERM", "EACCES", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL", "EXDEV", "EMLINK")
    if hasattr(errno, name)
)
_PRIVILEGE_NOT_HELD: Final = 1314


class Placement(StrEnum):
    """How a file came into the folder."""

    COPY = "copy"
    LINK = "link"
    HARD_LINK = "hard link"
    THERE = "there already"


@dataclass(slots=True)
class PlacedFiles:
    """What became of the files.

    Attributes:
        placed: The paths in the folder, each with how it came there.
        failed: Paths that could not be placed, each with the reason.
    """

    placed: list[tuple[Path, Placement]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def count(self, placement: Placement) -> int:
        """Return how many files came into the folder in this way."""
        return sum(how is placement for _, how in self.placed)


def check_folder(directory: Path) -> None:
    """Raise now what `place_files` would raise after the search.

    Args:
        directory: The folder; made later if it is not there, as are those above it.

    Raises:
        PathError: It is a file, or lies in one.
    """
    for folder in (directory, *directory.parents):
        if folder.is_dir():
            return
        if os.path.lexists(folder):
            raise PathError(f"{folder} is no folder", hint="Choose another name for the folder.")


def place_files(groups: Iterable[Sequence[str]], directory: Path, *, link: bool) -> PlacedFiles:
    """Put copies of files into a folder, or links to them; nothing there is ever replaced.

    A name that is taken gets a number: "a.jpg", "a-2.jpg". The files of a group keep belonging
    together by their names: they get the same number. What is there already, as a link to the
    same file or as a copy of the same bytes, is left as it is.

    Args:
        groups: Absolute paths, as os.fsdecode gives them: each a picture and what belongs to it.
        directory: The folder; it is made if need be.
        link: Make symbolic links; where these are refused, hard links, and else copies.

    Raises:
        PathError: The folder cannot be made.
    """
    check_folder(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PathError(
            f"the folder {directory} cannot be made: {error.strerror or error}",
            hint="Name a folder that can be written to.",
        ) from error
    done = PlacedFiles()
    for group in groups:
        _place_group(group, directory, done, link=link)
    return done


def _place_group(group: Sequence[str], directory: Path, done: PlacedFiles, *, link: bool) -> None:
    there = [path for path in group if os.path.lexists(path)]
    for path in group:
        if path not in there:
            done.failed.append((path, "it is not there any more"))
    if not there:
        return
    for names in _numbered_names(there):
        targets = [directory / name for name in names]
        pairs = list(zip(there, targets, strict=True))
        if all(not os.path.lexists(target) or _is_same(path, target) for path, target in pairs):
            break
    for path, target in pairs:
        try:
            how = _place(path, target, link=link)
        except FileExistsError:
            done.failed.append((path, f"{target} has been made meanwhile"))
        except UnreadablePictureError as error:
            done.failed.append((path, str(error)))
        except OSError as error:
            done.failed.append((path, error.strerror or str(error)))
        else:
            done.placed.append((target, how))


def _numbered_names(group: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names of a group's files, then those with -2, with -3 and so on, without end."""
    names = [os.path.basename(path) for path in group]
    yield names
    stem, _ = os.path.splitext(names[0])
    number = 1
    while True:
        number += 1
        numbered = []
        for name in names:
            # "a.jpg", "a.CR2" and "a.jpg.xmp" become "a-2.jpg", "a-2.CR2" and "a-2.jpg.xmp".
            kept = stem if name.startswith(stem) else os.path.splitext(name)[0]
            numbered.append(f"{kept}-{number}{name[len(kept) :]}")
        yield numbered


def _is_same(path: str, target: Path) -> bool:
    """Tell whether a file of the folder is a link to this one, or has the same bytes."""
    try:
        if os.path.samefile(path, target):
            return True
        if not os.path.isfile(path) or not target.is_file():
            return False
        if os.path.getsize(path) != target.stat().st_size:
            return False
        with open_regular(os.fsencode(path)) as one, open_regular(os.fsencode(target)) as other:
            return _have_same_bytes(one, other)
    except (OSError, UnreadablePictureError):
        return False


def _have_same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    while piece := one.read(_COMPARED_BYTES):
        if piece != other.read(_COMPARED_BYTES):
            return False
    return True


def _place(path: str, target: Path, *, link: bool) -> Placement:
    """Place a file under a name that is free, or that holds the same file.

    Raises:
        FileExistsError: Something has taken the name meanwhile.
        OSError: The operating system refuses.
        UnreadablePictureError: The file cannot be read, or only the cloud has it.
    """
    if os.path.lexists(target):
        return Placement.THERE
    if link:
        for make, placement in ((os.symlink, Placement.LINK), (os.link, Placement.HARD_LINK)):
            try:
                make(path, target)
            except OSError as error:
                if not _is_refused_link(error):
                    raise
            else:
                return placement
    _copy(path, target)
    return Placement.COPY


def _is_refused_link(error: OSError) -> bool:
    if getattr(error, "winerror", None) == _PRIVILEGE_NOT_HELD:
        return True
    return error.errno in _NO_LINKS


def _copy(path: str, target: Path) -> None:
    """Copy bytes and times; the name appears once everything is there."""
    temporary = target.with_name(f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    with open_regular(os.fsencode(path)) as source:
        try:
            with temporary.open("xb") as copy:
                shutil.copyfileobj(source, copy, _COMPARED_BYTES)
            status = os.fstat(source.fileno())
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
            _give_name(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _give_name(temporary: Path, target: Path) -> None:
    """Rename a file, but only to a name that is free."""
    # Renaming alone replaces what is there, except on Windows; linking is not possible everywhere.
    target.touch(exist_ok=False)
    try:
        temporary.replace(target)
    except BaseException:
        target.unlink()
        raise
