"""Questions answered by the daemon: the index and the text tower stay in memory between them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from siglip_search.engine.library import Library
from siglip_search.service.messages import QueryReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search.search.question import Question
    from siglip_search.settings import Settings

T = TypeVar("T")


class ResidentSearch:
    """Answers with the newest committed state; safe from several threads.

    Args:
        settings: Which library, and where the text tower runs.
        clock: Seconds that never go back.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._library: Library | None = None
        self._answering: dict[Library, int] = {}
        self._asked_at = clock()
        self._answered = 0
        self._is_warm = False

    def answer(self, question: Question) -> QueryReply:
        """Answer a question.

        Raises:
            QueryError: It cannot be answered; see `Library.search`.
            PathError: A picture of it cannot be read.
            LibraryMissingError: Nothing has been indexed yet.
            ModelError: The library's model is not installed.
            DeviceError: The device was asked for by name and cannot be used, or fails.
        """
        try:
            with self._lent() as library:
                answer = library.answer(question)
                self._is_warm = True
                return QueryReply(answer, library.notice())
        finally:
            with self._lock:
                self._asked_at = self._clock()
                self._answered += 1

    def use(self, do: Callable[[Library], T]) -> T:
        """Return what something gives that asks the library; it counts as no question.

        What it loads is kept only if questions keep it anyway.
        """
        try:
            with self._lent() as library:
                return do(library)
        finally:
            if not self.is_warm:
                self.start_afresh()

    @contextmanager
    def _lent(self) -> Iterator[Library]:
        with self._lock:
            # With the tower of a lone query, so that both give the same digits.
            library = self._library = self._library or Library(self._settings, one_shot=True)
            self._answering[library] = self._answering.get(library, 0) + 1
        try:
            yield library
        finally:
            with self._lock:
                self._let_go(library)

    @property
    def answered(self) -> int:
        """How many questions there were."""
        return self._answered

    @property
    def is_warm(self) -> bool:
        """Whether a question finds its tower and its index loaded."""
        with self._lock:
            return self._library is not None and self._is_warm

    def seconds_idle(self) -> float:
        """Return for how long nothing was asked."""
        with self._lock:
            return 0.0 if self._answering else self._clock() - self._asked_at

    def start_afresh(self) -> None:
        """Let the tower, the index and every open file go; the next question opens them anew.

        Questions that are being answered are finished with what they have.
        """
        with self._lock:
            library, self._library = self._library, None
            self._is_warm = False
            if library is not None and library not in self._answering:
                library.close()

    def _let_go(self, library: Library) -> None:
        """Count an answer that is done; the last one closes a library that was put away."""
        self._answering[library] -= 1
        if not self._answering[library]:
            del self._answering[library]
            if library is not self._library:
                library.close()
