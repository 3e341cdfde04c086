"""One line of progress on a terminal's stderr, for work that counts towards a known end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counting_line(what: str, total: int, *, enabled: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many are done; silent when not enabled.

    Args:
        what: What is being done, in a word or two.
        total: How many there are to do.
        enabled: Whether stderr is a terminal that somebody looks at.
    """
    if not enabled:
        yield lambda _: None
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
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
