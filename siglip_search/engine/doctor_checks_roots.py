"""The indexed folders: there, readable, not suspiciously empty; how a watcher can follow them."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.engine.doctor_finding import Finding
from siglip_search.photos.name_folding import folded
from siglip_search.photos.volumes import MountedVolumes, VolumePlace
from siglip_search.photos.watch_mounts import polling_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from siglip_search.engine.doctor_finding import RootFacts, Subject

_MACOS_REMEDY = (
    "System Settings > Privacy & Security > Files and Folders (or Full Disk Access): allow the "
    "terminal program, and the service's Python; then start them anew."
)


def name_of(facts: RootFacts) -> str:
    """Return the folder's path as text."""
    return os.fsdecode(facts.root.path)


def look_at_root(_: Subject, facts: RootFacts) -> Iterable[Finding]:
    """Tell whether an indexed folder can be read, and whether it is the one that was indexed."""
    name = name_of(facts)
    path = facts.root.path
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return [_missing(name, facts)]
    except OSError as error:
        return [_refused(name, error)]
    if not os.path.isdir(path):
        return [Finding(name, "good", "a single picture, there")]
    try:
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        return [_refused(name, error)]
    if is_empty and facts.has_files:
        what = "empty, though the library knows pictures in it; none is removed for that"
        remedy = "Connect the drive that belongs there."
        if sys.platform == "darwin":
            remedy = f"{_MACOS_REMEDY} Or connect the drive that belongs there."
        return [Finding(name, "bad", what, remedy)]
    place = MountedVolumes().place_of(path) if facts.root.volume is not None else None
    if place is not None and place.volume != facts.root.volume:
        what = "lies on another volume than when it was indexed"
        remedy = "Connect the drive that belongs there, unless it was replaced by a copy."
        return [Finding(name, "note", what, remedy)]
    return [Finding(name, "good", "; ".join(("there, readable", *_remarks(path))))]


def look_for_same_folders(subject: Subject) -> Iterable[Finding]:
    """Find indexed folders that are one and the same, or in one another, by way of links."""
    roots = subject.library.roots if subject.library is not None else ()
    real = [(name_of(facts), os.path.realpath(facts.root.path)) for facts in roots]
    found = []
    for number, (name, path) in enumerate(real):
        for other, other_path in real[:number]:
            if relative_to(path, other_path) is None and relative_to(other_path, path) is None:
                continue
            what = f"{name} and {other} show the same pictures, by way of a link"
            remedy = f"siglip-search forget {shlex.quote(name)}"
            found.append(Finding("folders", "note", what, remedy))
    if not roots:
        return [Finding("folders", "good", "none is indexed yet")]
    return found or [Finding("folders", "good", f"{len(roots)} indexed, none inside another")]


def confinement(environment: Mapping[str, str], marks: Path = Path("/")) -> str | None:
    """Return how a confined program gets at another folder; None when it is not confined.

    Args:
        environment: The process's variables.
        marks: Where Flatpak leaves its mark for the programs in it.
    """
    if (marks / ".flatpak-info").exists():
        name = environment.get("FLATPAK_ID", "APP")
        return f"flatpak override --user --filesystem=FOLDER {name}, then start it anew"
    if "SNAP_NAME" in environment:
        return f"sudo snap connect {environment['SNAP_NAME']}:removable-media"
    return None


def names_fold(folder: bytes) -> bool:
    """Tell whether a folder's own name is taken in any case; False where it has no letters."""
    parent, name = os.path.split(folder)
    other = name.swapcase()
    if other == name or folded(other) != folded(name):
        return False
    try:
        return os.path.samefile(folder, os.path.join(parent, other))
    except OSError:
        return False


def _missing(name: str, facts: RootFacts) -> Finding:
    root = facts.root
    confined = confinement(os.environ)
    if confined is not None:
        return Finding(name, "bad", "not there, or hidden from this confined program", confined)
    if root.volume is not None and not _is_mounted(root.volume):
        what = "its drive or share is not connected; its pictures are kept and still found"
        return Finding(name, "note", what, "Connect it, and `siglip-search index` goes on there.")
    quoted = shlex.quote(name)
    what = "not there; its pictures are kept and still found"
    remedy = f"siglip-search roots relocate {quoted} NEW, or: siglip-search forget {quoted}"
    return Finding(name, "bad", what, remedy)


def _is_mounted(volume: str) -> bool:
    return bool(MountedVolumes().paths_of(VolumePlace(volume, b"")))


def _refused(name: str, error: OSError) -> Finding:
    what = f"cannot be read: {error.strerror}"
    if sys.platform == "darwin" and error.errno in {errno.EPERM, errno.EACCES}:
        return Finding(name, "bad", what, _MACOS_REMEDY)
    confined = confinement(os.environ)
    if confined is not None:
        return Finding(name, "bad", what, confined)
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Finding(name, "bad", what, _how_to_be_let_in(name))
    return Finding(name, "bad", what, "Look at the disk or share that it lies on.")


def _how_to_be_let_in(name: str) -> str:
    """Return what lets this user in, and nobody else."""
    quoted = shlex.quote(name)
    try:
        is_own = hasattr(os, "geteuid") and os.lstat(name).st_uid == os.geteuid()
    except OSError:
        is_own = False
    if is_own:
        return f"chmod u+rX {quoted}"
    if sys.platform == "linux":
        return f'sudo setfacl -R -m "u:$(id -un):rX" {quoted}, or ask its owner.'
    return "Ask the owner of the folder for leave to read it."


def _remarks(path: bytes) -> list[str]:
    polled = polling_reason(os.path.realpath(path))
    return [
        *([f"a watcher polls it: {polled}"] if polled is not None else []),
        *(["its names know no case"] if names_fold(path) else []),
    ]
