"""Which files of a folder belong to a picture beside them, judged by their names alone.

A camera that writes RAW+JPEG, a phone that films a moment around each picture (Live Photos) and
programs that keep metadata in sidecars all use the picture's own name. In a result such files
stand with their picture, and none of them is a result of its own.

- The first picture of a stem has its RAWs and its film: JPEG before HEIF, those before all other
  formats, then by name. A RAW without a picture beside it is a picture itself.
- Films, MOV or MP4, belong to JPEG and HEIF only.
- "IMG_1.CR2.xmp" belongs to IMG_1.CR2, and with it to the picture that has it; "IMG_1.xmp" belongs
  to every picture of that stem. darktable's "IMG_1_01.CR2.xmp", a second version of IMG_1.CR2,
  belongs to none: what is said of a version need not hold for the picture.

Where two stems differ in case or normalisation only, an exact match comes first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from siglip_search.photos.formats import EXTENSIONS_BY_FORMAT, is_raw_name
from siglip_search.photos.name_folding import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from siglip_index.records import CompanionKind

_SIDECAR_SUFFIX = b".xmp"
_FILM_SUFFIXES = (b".mov", b".mp4")
_PREFERRED = (
    EXTENSIONS_BY_FORMAT["JPEG"] | EXTENSIONS_BY_FORMAT["MPO"],
    EXTENSIONS_BY_FORMAT["HEIF"],
)


def may_accompany(name: bytes) -> bool:
    """Tell whether a file, by its name, can belong to a picture beside it.

    Args:
        name: File name without its folder.
    """
    # macOS lays "._name" beside files on foreign disks: resources, never the file itself.
    if name.startswith(b"._"):
        return False
    return is_sidecar(name) or name.lower().endswith(_FILM_SUFFIXES) or is_raw_name(name)


def is_sidecar(name: bytes) -> bool:
    """Tell whether a file, by its name or path, is an XMP sidecar."""
    return name.lower().endswith(_SIDECAR_SUFFIX)


def stacked_names(
    pictures: Iterable[bytes], others: Iterable[bytes]
) -> dict[bytes, list[tuple[bytes, CompanionKind]]]:
    """Return what belongs to the pictures of one folder.

    Args:
        pictures: Names of files that are pictures by themselves; RAWs too, where they are read.
        others: Names of other files that `may_accompany` one.

    Returns:
        For each picture that something belongs to, the names of that. A RAW among the pictures
        that belongs to one is itself none any more.
    """
    return _Folder(pictures, others).stacks


def in_order_of_weight(pictures: Iterable[bytes], sidecars: Iterable[bytes]) -> list[bytes]:
    """Return the sidecars of a content so that each counts for more than those before it.

    "IMG_1.xmp" stands first, then that of a RAW, and last that of the very file ("IMG_1.JPG.xmp").

    Args:
        pictures: Paths or names of the files that hold it.
        sidecars: Paths or names of their sidecars.
    """
    own = {folded(os.path.basename(picture)) for picture in pictures}

    def weight(path: bytes) -> tuple[int, bytes]:
        subject = folded(os.path.basename(path)[: -len(_SIDECAR_SUFFIX)])
        if subject in own:
            return 2, path
        return int(is_raw_name(subject)), path

    return sorted(sidecars, key=weight)


class _Folder:
    """The names of one folder, and which belong together."""

    def __init__(self, pictures: Iterable[bytes], others: Iterable[bytes]) -> None:
        self.stacks: dict[bytes, list[tuple[bytes, CompanionKind]]] = {}
        pictures, others = list(pictures), sorted(others)
        raws = sorted(
            [name for name in pictures if is_raw_name(name)]
            + [name for name in others if is_raw_name(name)]
        )
        # Most folders hold nothing but pictures.
        if not raws and not others:
            return
        # And most pictures have nothing beside them, which is cheaper to see first.
        asked_for = _stem_keys([*raws, *others])
        self._by_stem: dict[bytes, list[bytes]] = {}
        for name in pictures:
            key = _key(_stem(name))
            if key in asked_for and not is_raw_name(name):
                self._by_stem.setdefault(key, []).append(name)
        for alike in self._by_stem.values():
            alike.sort(key=_preference)
        single = self._stack_raws(raws, frozenset(pictures))
        for name in others:
            if name.lower().endswith(_FILM_SUFFIXES):
                films = [main for main in self._of_stem(_stem(name)) if _has_film(main)]
                self._give(films[:1], name, "live-video")
        # Only now: a RAW that is a picture itself has sidecars, but no RAW and no film.
        for name in single:
            self._by_stem.setdefault(_key(_stem(name)), []).append(name)
        for name in others:
            if is_sidecar(name):
                self._give(self._subjects(name[: -len(_SIDECAR_SUFFIX)]), name, "sidecar")

    def _stack_raws(self, raws: Sequence[bytes], pictures: frozenset[bytes]) -> list[bytes]:
        """Give the RAWs to their pictures; return those that are pictures themselves."""
        single = []
        self._main_of: dict[bytes, bytes] = {}
        self._raws_by_stem: dict[bytes, list[bytes]] = {}
        for name in raws:
            mains = self._of_stem(_stem(name))[:1]
            self._give(mains, name, "raw")
            for main in mains:
                self._main_of[name] = main
                self._raws_by_stem.setdefault(_key(_stem(name)), []).append(name)
            if not mains and name in pictures:
                single.append(name)
        return single

    def _of_stem(self, stem: bytes) -> list[bytes]:
        alike = self._by_stem.get(_key(stem), [])
        return [name for name in alike if _stem(name) == stem] or alike

    def _subjects(self, subject: bytes) -> list[bytes]:
        """Return the pictures that a sidecar is about, by its name without the suffix."""
        stem = _stem(subject)
        named = [*self._of_stem(stem), *self._raws_by_stem.get(_key(stem), [])]
        for matches in (
            [name for name in named if name == subject],
            [name for name in named if _key(name) == _key(subject)],
        ):
            if matches:
                return [self._main_of.get(name, name) for name in matches[:1]]
        return self._of_stem(subject)

    def _give(self, mains: Iterable[bytes], name: bytes, kind: CompanionKind) -> None:
        for main in mains:
            self.stacks.setdefault(main, []).append((name, kind))


def _stem_keys(names: Iterable[bytes]) -> set[bytes]:
    """Return the keys of the stems under which these look for their pictures."""
    keys = set()
    for name in names:
        subject = name[: -len(_SIDECAR_SUFFIX)] if is_sidecar(name) else name
        keys.add(_key(_stem(subject)))
        if subject is not name:
            keys.add(_key(subject))
    return keys


def _stem(name: bytes) -> bytes:
    return os.path.splitext(name)[0]


def _key(name: bytes) -> bytes:
    return name.lower() if name.isascii() else folded(name)


def _preference(name: bytes) -> tuple[int, bytes]:
    extension = name.rpartition(b".")[2].lower()
    ranks = [rank for rank, extensions in enumerate(_PREFERRED) if extension in extensions]
    return ranks[0] if ranks else len(_PREFERRED), name


def _has_film(name: bytes) -> bool:
    return _preference(name)[0] < len(_PREFERRED)
