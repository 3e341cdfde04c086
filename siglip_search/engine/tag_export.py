"""Tags for other programs: one JSON document, or new XMP sidecars beside the pictures."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from siglip_index.locations import join, relative_to
from siglip_search.photos.xmp_sidecar import (
    SidecarFolder,
    create_sidecar,
    package_above,
    sidecar_packet,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from siglip_index.protocol import Store
    from siglip_index.records import Photo
    from siglip_search.photos.xmp_sidecar import SidecarNaming

_BATCH: Final = 1024


@dataclass(slots=True)
class SidecarReport:
    """What became of a wish for sidecars.

    Attributes:
        written: New sidecars; with `dry_run`, those that would be.
        existing: Pictures left alone because they have a sidecar.
        known: Pictures left alone because each of their tags is a keyword of theirs already.
        foreign: Pictures left alone because they lie inside another program's photo library.
        gone: Pictures that are not where they were.
        refused: Folders in which nothing could be written, with the reason.
        not_written: Pictures in them that were to have a sidecar.
        stopped: Whether it was stopped before the end.
    """

    written: int = 0
    existing: int = 0
    known: int = 0
    foreign: int = 0
    gone: int = 0
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    not_written: int = 0
    stopped: bool = False


def tagged_photos(
    store: Store, space_key: str, *, under: bytes | None = None
) -> Iterator[tuple[Photo, tuple[tuple[str, float], ...]]]:
    """Yield the visible photos that have tags, with these, best first.

    Args:
        store: The library.
        space_key: The space whose tags are meant.
        under: Only photos with a present file below this folder (absolute); None for all.
    """
    ids = sorted(store.photos_in_space(space_key))
    for start in range(0, len(ids), _BATCH):
        tags = store.tags(space_key, ids[start : start + _BATCH])
        for photo in store.photos(sorted(tags)):
            if under is None or any(relative_to(path, under) is not None for path in photo.paths):
                yield photo, tags[photo.id]


def export_tags(
    store: Store,
    space_key: str,
    stream: BinaryIO,
    *,
    under: bytes | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write one JSON array, an object a line for each photo that has tags; return how many.

    Args:
        store: The library.
        space_key: The space whose tags are meant.
        stream: Where to; it stays open. Only ASCII is written: a path that is no text survives as
            escaped surrogates.
        under: As for `tagged_photos`.
        on_progress: Called with the number of photos written so far.

    Raises:
        OSError: The stream cannot be written.
    """
    photos = 0
    stream.write(b"[")
    for photo, tags in tagged_photos(store, space_key, under=under):
        row = {
            "content_hash": photo.content_hash.hex(),
            "paths": [os.fsdecode(path) for path in photo.paths],
            "tags": [{"label": label, "probability": chance} for label, chance in tags],
        }
        line = json.dumps(row, separators=(",", ":")).encode("ascii")
        stream.write((b",\n" if photos else b"\n") + line)
        photos += 1
        on_progress(photos)
    stream.write(b"\n]\n" if photos else b"]\n")
    return photos


def write_sidecars(
    store: Store,
    space_key: str,
    *,
    stop: threading.Event,
    naming: SidecarNaming = "full",
    under: bytes | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> SidecarReport:
    """Write a new sidecar beside each picture that has tags and no sidecar yet.

    It says the keywords that the library knows of the picture, then its tags: programs, this one
    too, take a sidecar's keywords in place of those in the picture. A copy in another folder gets
    one of its own.

    Args:
        store: The library.
        space_key: The space whose tags are meant.
        stop: When set, no further sidecar is begun.
        naming: How they are called.
        under: Only files below this folder (absolute); None for all.
        dry_run: Only count.
        on_progress: Called with the number of pictures done.
    """
    report = SidecarReport()
    done = 0
    for folder, files in _files_by_folder(store, under):
        if stop.is_set():
            report.stopped = True
            break
        ids = {photo_id for _, photo_id in files}
        tags = store.tags(space_key, ids)
        keywords = {photo.id: photo.facts.keywords for photo in store.photos(sorted(tags))}
        wanted = [
            (name, _keywords(keywords[photo_id], [label for label, _ in tags[photo_id]]))
            for name, photo_id in files
            if photo_id in keywords
        ]
        if wanted:
            _write_in(folder, wanted, report, naming=naming, dry_run=dry_run, stop=stop)
        done += len(files)
        on_progress(done)
    return report


def _keywords(own: Sequence[str], labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return a picture's keywords with its labels, or None where these bring nothing new."""
    known = {keyword.casefold() for keyword in own}
    new = [label for label in labels if label.casefold() not in known]
    return (*own, *new) if new else None


def _files_by_folder(
    store: Store, under: bytes | None
) -> Iterator[tuple[bytes, list[tuple[bytes, int]]]]:
    """Yield folders, absolute, with name and photo of each present file in them."""
    for root in store.roots():
        within = b""
        if under is not None:
            below = relative_to(under, root.path)
            if below is None and relative_to(root.path, under) is None:
                continue
            within = below or b""
        folders: dict[bytes, list[tuple[bytes, int]]] = defaultdict(list)
        for file in store.files(root.id, within):
            if file.present and file.photo_id is not None:
                # A root may be a single picture, whose path below it is empty.
                folder, name = os.path.split(join(root.path, file.path))
                folders[folder].append((name, file.photo_id))
        yield from folders.items()


def _write_in(
    folder: bytes,
    wanted: Sequence[tuple[bytes, tuple[str, ...] | None]],
    report: SidecarReport,
    *,
    naming: SidecarNaming,
    dry_run: bool,
    stop: threading.Event,
) -> None:
    """Write the sidecars of one folder; a refusal holds for all of it."""
    if package_above(os.path.join(folder, b"picture")) is not None:
        report.foreign += len(wanted)
        return
    try:
        listed = SidecarFolder(os.listdir(folder))
    except OSError as error:
        report.refused.append((folder, error.strerror or "it cannot be listed"))
        report.not_written += len(wanted)
        return
    may_write = not dry_run or os.access(folder, os.W_OK)
    refusal = None if may_write else "it cannot be written to"
    if refusal is not None:
        report.refused.append((folder, refusal))
    for name, keywords in wanted:
        if stop.is_set():
            report.stopped = True
            return
        if name not in listed:
            report.gone += 1
        elif listed.sidecars_of(name):
            report.existing += 1
        elif keywords is None:
            report.known += 1
        elif refusal is not None:
            report.not_written += 1
        elif dry_run:
            report.written += 1
        else:
            path = os.path.join(folder, listed.new_name(name, naming))
            try:
                create_sidecar(path, sidecar_packet(keywords))
            except FileExistsError:  # since the folder was listed, or as something else
                report.existing += 1
            except OSError as error:
                refusal = error.strerror or "input/output error"
                report.refused.append((folder, refusal))
                report.not_written += 1
            else:
                report.written += 1
