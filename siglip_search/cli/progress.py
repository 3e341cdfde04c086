"""One line of progress on a terminal's stderr, with rate and time left."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from siglip_search.ingest.report import Progress
    from siglip_search.models.hub import PullProgress


class ProgressLine:
    """Shows the scan, then the pictures done; silent when not enabled.

    Args:
        enabled: Whether stderr is a terminal that somebody looks at.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._held_back: str | None = None
        if enabled:
            self._bar = _make_bar()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("looking for pictures", total=None)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def scanned(self, files: int) -> None:
        """Show how many files the scan has come upon."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=files)

    def progress(self, progress: Progress) -> None:
        """Show how many pictures are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=self._described(),
                completed=progress.done,
                total=progress.total,
            )

    def tagging(self, progress: Progress) -> None:
        """Show how far the labels are embedded, and then the pictures compared with them."""
        if self._bar is not None and self._task is not None:
            if progress.done == 0:
                self._bar.reset(self._task)
            self._bar.update(
                self._task, description="tagging", completed=progress.done, total=progress.total
            )

    def held_back(self, how: str | None) -> None:
        """Show that the run is "slow" or "paused" from now on; None for full speed."""
        self._held_back = how
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._described())

    def _described(self) -> str:
        return "indexing" if self._held_back is None else f"indexing ({self._held_back})"


@contextmanager
def download_line(*, enabled: bool) -> Iterator[Callable[[PullProgress], None]]:
    """Give a function that shows how far a download is; silent when not enabled."""
    if not enabled:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=None)
        shown = ""

        def show(progress: PullProgress) -> None:
            nonlocal shown
            if progress.file != shown:
                # What is there of a file already has not just come in: no speed is made of it.
                bar.reset(task, completed=progress.done_bytes)
                shown = progress.file
            bar.update(
                task,
                description=progress.file,
                completed=progress.done_bytes,
                total=progress.total_bytes,
            )

        yield show


def _make_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        transient=True,
    )
