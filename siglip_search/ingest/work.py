"""What the pipeline carries from stage to stage: files to read, contents, results to commit."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_index.records import FileEntry
from siglip_search.photos.stacks import in_order_of_weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_index.records import Fingerprint, NewPhoto, PhotoFacts, Root
    from siglip_search.ingest.plan import RootPlan
    from siglip_search.ingest.report import Failure
    from siglip_search.photos.scan import SeenFile

BATCH_PICTURES = 32
BATCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """A file to be read.

    Attributes:
        root: Below which it lies.
        seen: As the scan saw it.
        kind: The count in the report that it will end up in.
        killed: How many decoding processes it has killed in this run.
    """

    root: Root
    seen: SeenFile
    kind: str
    killed: int = 0

    @property
    def path(self) -> bytes:
        """Absolute."""
        return join(self.root.path, self.seen.path)

    @property
    def sidecars(self) -> tuple[bytes, ...]:
        """Absolute paths; each counts for more than those before it."""
        sidecars = [item.path for item in self.seen.companions if item.kind == "sidecar"]
        ordered = in_order_of_weight([self.seen.path], sidecars)
        return tuple(join(self.root.path, path) for path in ordered)

    def entry(self, fingerprint: Fingerprint | None = None) -> FileEntry:
        """Return what the store is told of the file, with the fingerprint of the read bytes."""
        return FileEntry(
            root_id=self.root.id,
            path=self.seen.path,
            fingerprint=fingerprint or self.seen.fingerprint,
            device=self.seen.device,
            companions=self.seen.companions,
        )


@dataclass(slots=True)
class Content:
    """A content on its way to the store, with every file of this run that holds it."""

    content_hash: bytes
    facts: PhotoFacts
    files: list[tuple[Work, FileEntry]]


@dataclass(slots=True)
class Batch:
    """Results that wait for their commit."""

    new: dict[bytes, tuple[Content, NewPhoto]] = field(default_factory=dict)
    links: list[tuple[int, Work, FileEntry]] = field(default_factory=list)
    failures: list[tuple[FileEntry, Failure]] = field(default_factory=list)
    online_only: list[Work] = field(default_factory=list)
    since: float = 0.0

    def __len__(self) -> int:
        pictures = sum(len(content.files) for content, _ in self.new.values())
        return pictures + len(self.links) + len(self.failures) + len(self.online_only)

    def start(self) -> None:
        """Note the time of the first result, from which the age of the batch counts."""
        if not len(self):
            self.since = time.monotonic()

    def is_due(self, now: float) -> bool:
        """Tell whether there is enough to commit, or it has waited for long enough."""
        return len(self) >= BATCH_PICTURES or (len(self) > 0 and now - self.since >= BATCH_SECONDS)


def never_up_to_date(fingerprint: Fingerprint) -> Fingerprint:
    """Return a fingerprint that no file has: the next run sees a change and tries again."""
    return replace(fingerprint, mtime_ns=-1)


def newest_first(plans: Iterable[RootPlan]) -> deque[Work]:
    """Return everything that has to be read."""
    work = [
        Work(root_plan.root, seen, kind)
        for root_plan in plans
        for kind, files in (
            ("added", root_plan.plan.added),
            ("changed", root_plan.plan.changed),
            ("unchanged", root_plan.plan.unembedded),
        )
        for seen in files
    ]
    work.sort(key=lambda item: item.seen.fingerprint.mtime_ns, reverse=True)
    return deque(work)
