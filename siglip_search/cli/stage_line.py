"""One line of progress on a terminal's stderr, for work that has several stages."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stage_line(*, enabled: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows a stage, and how much of how much of it is done.

    Args:
        enabled: Whether stderr is a terminal that somebody looks at.
    """
    if not enabled:
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal shown
            if stage != shown:
                # The speed of one stage says nothing about the next.
                bar.reset(task, description=stage, total=total)
                shown = stage
            bar.update(task, completed=done, total=total)

        yield show
