"""Many small pictures at a time, or one large one alone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class MemoryTurns:
    """Lets many share the memory, or one have it; who wants it alone is not kept waiting for ever.

    A lock for readers and writers in which the writer goes first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._is_taken = False
        self._waiting_to_be_alone = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait until nobody has, or wants, the memory alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken and not self._waiting_to_be_alone)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else uses it."""
        with self._changed:
            self._waiting_to_be_alone += 1
            self._changed.wait_for(lambda: not self._is_taken and not self._sharing)
            self._waiting_to_be_alone -= 1
            self._is_taken = True
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()
