"""The library: can it be read, are its snapshots whole by their looks, is the clock sane?

This is quick and looks at no vector; `siglip-search verify` compares everything.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from siglip_index import open_store, snapshot
from siglip_index.database import DATABASE_NAME
from siglip_index.errors import LibraryMissingError, StoreError
from siglip_search.engine.doctor_finding import Finding, LibraryFacts, RootFacts, readable_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from siglip_index.local_store import LocalStore
    from siglip_index.records import Root
    from siglip_search.engine.doctor_finding import Subject

DAY_SECONDS = 86_400.0
_SAMPLE_FILES = 4096
# A writer at work has temporary files too, for seconds.
_LEFT_AFTER_SECONDS = 3600.0
# Two clocks of one machine (a dual boot's, a virtual machine's) differ by little.
_CLOCK_SLACK_SECONDS = 300.0
_BEFORE_THIS_PROGRAM = 1_767_225_600.0  # 2026-01-01: no machine that runs it is older
_MANIFEST = re.compile(r"vectors-(\d+)\.json")


def with_library(subject: Subject) -> Subject:
    """Return the subject with what is in its library, or with why that cannot be read."""
    try:
        with open_store(subject.directory, writable=False) as store:
            return replace(subject, library=_facts(store))
    except LibraryMissingError:
        return subject
    except StoreError as error:
        return replace(subject, library_error=str(error), library_remedy=error.hint)


def look_at_library(subject: Subject) -> Iterator[Finding]:
    """Tell what is in the library, or why it cannot be read."""
    if subject.library_error is not None:
        yield Finding("library", "bad", subject.library_error, subject.library_remedy or None)
        return
    library = subject.library
    if library is None:
        what = f"nothing has been indexed in {subject.directory} yet"
        yield Finding("library", "note", what, "siglip-search index ~/Pictures")
        return
    counts = library.counts
    size = readable_bytes(sum(library.disk_bytes.values()))
    what = f"{counts.pictures:,} pictures in {counts.files:,} files, {size}"
    yield Finding("library", "good", f"{what}; `siglip-search verify` checks all of it")
    if counts.failed:
        what = f"{counts.failed:,} pictures could not be read"
        yield Finding("failures", "note", what, "siglip-search status --failed")
    if library.online_only:
        what = f"{library.online_only:,} pictures are only in the cloud"
        yield Finding("cloud", "note", what, "siglip-search index --download-cloud")
    if library.disk_bytes["copies"]:
        what = f"{readable_bytes(library.disk_bytes['copies'])} are copies that upgrades made"
        yield Finding("copies", "good", what)


def look_at_snapshots(subject: Subject) -> Iterable[Finding]:
    """Compare each snapshot's looks, size and time, with its manifest."""
    if subject.library is None:
        return []
    wrong = []
    whole = 0
    for space_id in _spaces_with_manifest(subject.directory):
        try:
            manifest = snapshot.read_manifest(subject.directory, space_id)
        except snapshot.SnapshotError as error:
            wrong.append(str(error))
            continue
        if manifest is None:
            continue
        if snapshot.is_untouched(subject.directory, manifest):
            whole += 1
        # Otherwise a writer replaced it meanwhile.
        elif manifest == snapshot.read_manifest(subject.directory, space_id):
            wrong.append(f"{manifest.file} is missing or was changed")
    if wrong:
        what = f"{'; '.join(wrong)}: no picture is lost, but each question takes longer"
        return [Finding("snapshots", "note", what, "siglip-search verify --repair")]
    return [Finding("snapshots", "good", f"{whole} there, unchanged since written")]


def look_for_leftovers(subject: Subject) -> Iterable[Finding]:
    """Find temporary files that a killed run left behind."""
    left = []
    total = 0
    before = time.time() - _LEFT_AFTER_SECONDS
    with suppress(OSError):
        for path in subject.directory.glob("*.tmp"):
            status = path.stat()
            if status.st_mtime < before:
                left.append(path.name)
                total += status.st_size
    if not left:
        return [Finding("leftovers", "good", "none")]
    files = "1 temporary file" if len(left) == 1 else f"{len(left)} temporary files"
    what = f"{files} of an interrupted run ({readable_bytes(total)})"
    return [Finding("leftovers", "note", what, "The next `siglip-search index` deletes them.")]


def look_at_clock(subject: Subject) -> Iterator[Finding]:
    """Compare the clock with the newest commit, and the pictures' times with the clock."""
    now = time.time()
    newest = _newest_commit(subject.directory)
    remedy = "Set the clock" + (
        ": sudo timedatectl set-ntp true" if sys.platform == "linux" else ""
    )
    today = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    if now < _BEFORE_THIS_PROGRAM:
        yield Finding("clock", "bad", f"the clock says {today}", remedy)
    elif newest is not None and now < newest - _CLOCK_SLACK_SECONDS:
        then = time.strftime("%Y-%m-%d %H:%M", time.localtime(newest))
        what = f"the clock says {today}, but the library was written on {then}"
        yield Finding("clock", "bad", what, remedy)
    else:
        since = "" if newest is None else ", later than the newest commit"
        yield Finding("clock", "good", today + since)
    roots = subject.library.roots if subject.library is not None else ()
    in_future = sum(root.in_future for root in roots)
    if in_future:
        what = f"{in_future:,} pictures claim to have been changed in the future"
        why = "Nothing has to be done; a camera's or another machine's clock was wrong."
        yield Finding("times of pictures", "note", what, why)


def _facts(store: LocalStore) -> LibraryFacts:
    return LibraryFacts(
        counts=store.counts(),
        active=store.active_space(),
        coming=store.coming_space(),
        online_only=len(store.online_only()),
        roots=tuple(_root_facts(store, root) for root in store.roots()),
        failures=frozenset(reason for _, reason in store.failures()),
        disk_bytes=store.disk_usage(),
    )


def _root_facts(store: LocalStore, root: Root) -> RootFacts:
    files = [file for file in islice(store.files(root.id), _SAMPLE_FILES) if file.present]
    tomorrow_ns = int((time.time() + DAY_SECONDS) * 1e9)
    in_future = sum(file.fingerprint.mtime_ns > tomorrow_ns for file in files)
    return RootFacts(root, bool(files), in_future)


def _spaces_with_manifest(directory: Path) -> list[int]:
    return sorted(
        int(match[1])
        for path in directory.iterdir()
        if (match := _MANIFEST.fullmatch(path.name)) is not None
    )


def _newest_commit(directory: Path) -> float | None:
    times = []
    for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal"):
        with suppress(OSError):
            times.append((directory / name).stat().st_mtime)
    return max(times, default=None)
