"""One line of progress on a terminal's stderr, for work that counts towards a known end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_search.cli.stage_line import stage_line

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
    with stage_line(enabled=enabled) as show:
        show(what, 0, total)
        yield lambda done: show(what, done, total)
