"""New XMP sidecars: keywords beside a picture, for other programs to read.

Only files are made that were not there: no picture and no sidecar is ever opened for writing.

Which name is read by what: "IMG_1.JPG.xmp" by darktable, digiKam and Immich; "IMG_1.xmp" by
Lightroom, Bridge and Capture One, and only beside RAWs: of a JPEG they read what is in it. The name
in full says which file is meant where two differ in their extension alone, so it is the usual one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal
from xml.sax.saxutils import escape

from siglip_search.photos.formats import EXTENSIONS_BY_FORMAT, RAW_EXTENSIONS
from siglip_search.photos.metadata_values import clean_keywords
from siglip_search.photos.name_folding import folded
from siglip_search.photos.stacks import is_sidecar, may_accompany, stacked_names

if TYPE_CHECKING:
    from collections.abc import Iterable

SidecarNaming = Literal["full", "stem"]
"""How a sidecar of IMG_1.JPG is called: IMG_1.JPG.xmp, or IMG_1.xmp."""

_SUFFIX: Final = b".xmp"
_EXTENSIONS: Final = RAW_EXTENSIONS.union(*EXTENSIONS_BY_FORMAT.values())

# Folders that are one document of a program, which does not expect anybody else's files in it.
_PACKAGES: Final = (
    *(b".photoslibrary", b".photolibrary", b".migratedphotolibrary", b".aplibrary"),
    *(b".lrlibrary", b".cocatalog"),
)

# O_EXCL: what exists is left alone, a link that leads nowhere included. Windows needs O_BINARY.
_CREATE_FLAGS: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOINHERIT", 0)
    | getattr(os, "O_BINARY", 0)
)


def sidecar_packet(keywords: Iterable[str]) -> bytes:
    """Return the content of a sidecar that says these keywords, and nothing else.

    They stand in `dc:subject` (XMP specification, part 1), which all programs read, and once more
    in `digiKam:TagsList`, which digiKam asks first, and which Immich reads instead.

    Args:
        keywords: Of any characters; control characters become spaces, and each stands once.
    """
    items = "".join(
        f"     <rdf:li>{escape(keyword)}</rdf:li>\n" for keyword in clean_keywords(keywords)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="siglip-search">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '  <rdf:Description rdf:about=""\n'
        '    xmlns:dc="http://purl.org/dc/elements/1.1/"\n'
        '    xmlns:digiKam="http://www.digikam.org/ns/1.0/">\n'
        f"   <dc:subject>\n    <rdf:Bag>\n{items}    </rdf:Bag>\n   </dc:subject>\n"
        f"   <digiKam:TagsList>\n    <rdf:Seq>\n{items}    </rdf:Seq>\n   </digiKam:TagsList>\n"
        "  </rdf:Description>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
    ).encode()


def create_sidecar(path: bytes, packet: bytes) -> None:
    """Write a sidecar that was not there; on disk when this returns.

    Args:
        path: Absolute path.
        packet: Its content.

    Raises:
        FileExistsError: Something is there, whatever it is.
        OSError: The system refuses; nothing of the file is left then.
    """
    descriptor = os.open(path, _CREATE_FLAGS, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(packet)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            os.unlink(path)  # nobody's but ours, as O_EXCL has made it
        raise


def package_above(path: bytes) -> bytes | None:
    """Return the photo library of another program in which a path lies, None if it lies in none.

    Args:
        path: Absolute path.
    """
    folder = os.path.dirname(path)
    while (above := os.path.dirname(folder)) != folder:
        if folder.lower().endswith(_PACKAGES):
            return folder
        folder = above
    return None


class SidecarFolder:
    """One folder as it is now: which sidecars its pictures have, and what a new one is called.

    Args:
        names: Of everything in it.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names = frozenset(names)
        self._folded = frozenset(map(folded, self._names))
        pictures = [name for name in self._names if _extension(name) in _EXTENSIONS]
        others = [
            name
            for name in self._names
            if may_accompany(name) and _extension(name) not in _EXTENSIONS
        ]
        self._stacks = stacked_names(pictures, others)
        raws = {name for stack in self._stacks.values() for name, kind in stack if kind == "raw"}
        self._stems: dict[bytes, int] = {}
        for name in pictures:
            if name not in raws:
                stem = folded(os.path.splitext(name)[0])
                self._stems[stem] = self._stems.get(stem, 0) + 1

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    def sidecars_of(self, picture: bytes) -> list[bytes]:
        """Return the names of the sidecars that a picture has, by whatever name and case.

        Those of the RAW that belongs to it count, as they do when the picture is indexed.

        Args:
            picture: Name of a file of this folder.
        """
        own = [name for name, _ in self._stacks.get(picture, ()) if is_sidecar(name)]
        # A picture that only its content shows to be one is in no stack.
        full = picture + _SUFFIX
        if not own and folded(full) in self._folded:
            return [name for name in self._names if folded(name) == folded(full)]
        return own

    def new_name(self, picture: bytes, naming: SidecarNaming) -> bytes:
        """Return the name of a new sidecar.

        Args:
            picture: Name of a file of this folder.
            naming: The stem alone is taken where no other picture has the same.
        """
        stem = os.path.splitext(picture)[0]
        if naming == "stem" and self._stems.get(folded(stem), 0) <= 1:
            return stem + _SUFFIX
        return picture + _SUFFIX


def _extension(name: bytes) -> bytes:
    return name.rpartition(b".")[2].lower() if b"." in name else b""
