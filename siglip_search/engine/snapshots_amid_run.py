"""Snapshots while a long run goes on, so that a question asked meanwhile need not replay it all."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_index.protocol import Store

_log = logging.getLogger(__name__)

MIN_SECONDS_BETWEEN = 60.0

# The run waits for a snapshot: so many times as long as the last one took must pass until the next.
PAUSE_SHARE = 100.0


class SnapshotsAmidRun:
    """Writes a snapshot after a commit, where the store finds one due and the last is long ago.

    Args:
        store: Opened for writing.
        clock: Seconds that never go back.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._next = clock() + MIN_SECONDS_BETWEEN

    def after_commit(self) -> None:
        """Write what is due; a failure only makes the next question slower."""
        started = self._clock()
        if started < self._next:
            return
        try:
            self._store.write_snapshot()
        except StoreError as error:
            _log.warning("No snapshot was written; the next search takes longer: %s", error)
        ended = self._clock()
        self._next = ended + max(MIN_SECONDS_BETWEEN, PAUSE_SHARE * (ended - started))
