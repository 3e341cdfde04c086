"""One run after another over the library: carried out, listened to, accounted for."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from siglip_search.engine.indexing import IndexListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search.ingest.pace import Decision
    from siglip_search.ingest.report import Committed, IngestReport, Progress
    from siglip_search.photos.settling import Settling
    from siglip_search.service.activity import Activity
    from siglip_search.service.journal import Journal


# A file that is being written is whole by then; of one that may not be read somebody should know.
TELLING_TRY = 4


@contextmanager
def unseen() -> Iterator[IndexListener]:
    """Give a listener that does nothing."""
    yield IndexListener()


class Runs:
    """Carries out runs and tells of each in one line.

    Args:
        settling: Is given what has to be tried again later.
        activity: Is told how far a run is.
        journal: Takes the lines.
        clock: Seconds that never go back.

    Attributes:
        has_unsaved: Whether a run changed what a snapshot would hold; reset by whoever writes one.
        has_news: Whether a run changed what searches find; reset by whoever searched again.
    """

    def __init__(
        self,
        settling: Settling,
        activity: Activity,
        journal: Journal,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settling = settling
        self._activity = activity
        self._journal = journal
        self._clock = clock
        self._began_at = 0.0
        self._embedding_since: float | None = None
        self.has_unsaved = False
        self.has_news = False

    def carry_out(
        self,
        run: Callable[[IndexListener], IngestReport],
        what: str,
        listener: IndexListener,
        *,
        routine: bool = False,
    ) -> IngestReport:
        """Carry out a run.

        Args:
            run: Does it, and tells the listener.
            what: What it is, as its line in the journal begins.
            listener: Who else wants to know.
            routine: Leave out the line where nothing was to be done.

        Raises:
            SiglipSearchError, StoreError, OSError: As the run raises it.
        """
        self._began_at, self._embedding_since = self._clock(), None
        self._activity.now("scanning")
        own = IndexListener(
            on_progress=self._progress,
            on_commit=self._committed,
            on_pace=self._pace,
            on_tagging=self._tagging,
        )
        report = run(_both(own, listener))
        self._account(report, what, routine=routine)
        return report

    @property
    def has_read(self) -> bool:
        """Whether the run in progress, or the last one, has read a picture."""
        return self._embedding_since is not None

    def seconds_of_scan_and_embedding(self) -> tuple[float, float]:
        """Return how long the run in progress looked around, and embeds since; from any thread."""
        since = self._embedding_since
        if since is None:
            return self._clock() - self._began_at, 0.0
        return since - self._began_at, self._clock() - since

    def _progress(self, progress: Progress) -> None:
        if self._embedding_since is None:
            self._embedding_since = self._clock()
        self._activity.progress(progress)

    def _tagging(self, progress: Progress) -> None:
        if self._embedding_since is None:
            self._embedding_since = self._clock()
        self._activity.tagging(progress)

    def _committed(self, committed: Committed) -> None:
        self.has_unsaved = self.has_news = True
        self._activity.committed(committed)
        for failure in committed.failures:
            line = f"{os.fsdecode(failure.path)}: {failure.reason}"
            say = self._journal.warning
            if failure.try_again:
                # At once: a run that fails later gives no report.
                tries = self._settling.try_later(failure.path)
                line += "; tried again, at most every ten minutes"
                say = self._journal.warning if tries == TELLING_TRY else self._journal.debug
            say(line, path=failure.path, reason=failure.reason)

    def _pace(self, decision: Decision) -> None:
        why = None
        if decision.cause is not None:
            charge = decision.battery_percent
            percent = "" if charge is None or decision.cause == "heat" else f" ({charge:.0f}%)"
            cause = "heat" if decision.cause == "heat" else f"on battery{percent}"
            why = f"{cause}: " + (
                f"{decision.at_once} pictures at a time" if decision.at_once else "paused"
            )
        self._activity.held_back(why, paused=not decision.at_once)
        self._journal.info(why or "going on at full speed", cause=decision.cause)

    def _account(self, report: IngestReport, what: str, *, routine: bool) -> None:
        for warning in report.warnings:
            if self._activity.warn(warning):
                self._journal.warning(warning)
        counts = {
            name: getattr(report, name)
            for name in ("added", "changed", "moved", "removed", "embedded", "pending")
            if getattr(report, name)
        }
        self.has_unsaved = self.has_unsaved or bool(counts)
        self.has_news = self.has_news or bool(counts)
        if routine and not counts:
            self._journal.debug(f"{what}: nothing new")
            return
        if report.stopped:
            what += " in part"
        self._journal.info(
            f"{what}: {_counted(report)} ({report.seconds:.1f} s)",
            **counts,
            seconds=round(report.seconds, 3),
        )


def _counted(report: IngestReport) -> str:
    parts = [
        f"{number:,} {words}"
        for number, words in (
            (report.added, "added"),
            (report.changed, "changed"),
            (report.moved, "moved"),
            (report.removed, "gone"),
            (report.unreachable, "out of reach"),
            (report.failed, "unreadable"),
            (report.pending, "still to be read"),
        )
        if number
    ]
    if report.switched:
        parts.append(f"{report.model} answers from now on")
    return ", ".join(parts) or "nothing new"


def _both(first: IndexListener, second: IndexListener) -> IndexListener:
    """Return a listener that tells two."""

    def tell(name: str, value: Any) -> None:
        getattr(first, name)(value)
        getattr(second, name)(value)

    return IndexListener(
        **{field.name: partial(tell, field.name) for field in fields(IndexListener)}
    )
