"""A tower that outlives a failure of its device: opened anew once, then replaced or given up.

When the firmware of a Qualcomm NPU restarts after a crash, everything that a process had prepared
there is void: each further run of the old session fails, and a new session works (Qualcomm's
"SubSystem Restart"; ONNX Runtime's page on QNN, "Error handling"). So a failed run is repeated in a
new session, after the driver was tried again in a process of its own. If that fails too, the
device is given up.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.devices import forget_probes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.towers.devices import OpenedSession
    from siglip_search.towers.embedding import EmbeddingGraph
    from siglip_search.towers.session import Device

_STEADY_RUNS: Final = 100
"""A new session that has run so often has recovered: its failure is a new one, not the old one
again. A laptop that sleeps every night must not lose its NPU after the second."""

_LONGEST_WAIT_SECONDS: Final = 10.0
"""For runs in a void session to end. They fail soon; one that hangs must not stop all others."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings with what made them.

    Attributes:
        vectors: Unit vectors, shape (n, dimension).
        precision: Of the arithmetic that made them.
        device: Where they were made: "cpu", "npu" or "npu-emulator".
    """

    vectors: NDArray[np.float32]
    precision: str
    device: Device


@dataclass(frozen=True, slots=True)
class OpenTower:
    """A tower on the device where it runs now.

    Attributes:
        opened: Its session, and why there.
        graph: The session with the input and output that matter.
        precision: To be noted with its vectors.
    """

    opened: OpenedSession
    graph: EmbeddingGraph
    precision: str


@dataclass(frozen=True, slots=True)
class Substitute:
    """A tower on the processor that makes vectors of the same embedding space.

    Attributes:
        model: Name of its model.
        open: Opens it.
    """

    model: str
    open: Callable[[], OpenTower]


class Failover:
    """Runs a tower, and sees to it once when its device fails, however many threads notice.

    `run` may be called from several threads at once. While a new session is being opened the
    others wait for it. It is opened once every run in the void one has ended, so that nothing holds
    that one any more; a run that hangs is not waited for longer than 10 seconds.

    Args:
        tower: Open, and held by nobody else: it is let go of before it is opened anew.
        reopen: Opens it once more on the device that it names.
        substitutes: Called once, after the device has failed for good: what may go on instead, the
            best first. None if nothing may, because the user has asked for this device by name.
        runs_on_cpu: Whether the model's own tower could run on the processor, for the hint.
        on_notice: Called with one line when a new session has worked, the first time only, and
            when a substitute goes on; in whichever thread finds it, which holds no lock. What it
            raises comes out of that one run.
    """

    def __init__(
        self,
        tower: OpenTower,
        reopen: Callable[[Device], OpenTower],
        *,
        substitutes: Callable[[], Iterable[Substitute]] | None,
        runs_on_cpu: Callable[[], bool],
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._tower: OpenTower | None = tower
        self._reopen = reopen
        self._substitutes = substitutes
        self._runs_on_cpu = runs_on_cpu
        self._on_notice = on_notice or _log.warning
        self._changed = threading.Condition()  # guards what follows and `_tower`
        self._session = 0  # how many came before the present one
        self._in_work: Counter[int] = Counter()  # runs that have begun and not ended, by session
        self._is_replacing = False  # one thread does, and all others wait
        self._runs_since_reopening: int | None = None
        self._untold: str | None = None
        self._given_up: DeviceError | None = None

    @property
    def tower(self) -> OpenTower:
        """What runs now.

        Raises:
            DeviceError: Nothing does any more.
        """
        with self._changed:
            return self._present()

    def run(self, work: Callable[[EmbeddingGraph], NDArray[np.float32]]) -> Embedded:
        """Return what `work` makes, all of it with one tower, and which that was.

        Args:
            work: Runs the graph; it is called again when the device fails meanwhile.

        Raises:
            ModelError: The tower refuses the input, or its result is no direction.
            DeviceError: The device failed for good, and nothing may or can take its place.
        """
        while True:
            with self._changed:
                tower, session = self._present(), self._session
                self._in_work[session] += 1
            made, failure, device = None, "", tower.opened.device
            try:
                made = Embedded(work(tower.graph), tower.precision, device)
            except DeviceError as error:
                # Not kept itself: the frames that hang on it keep the void session alive.
                failure = str(error)
            finally:
                del tower  # first: whoever waits for this run to end waits for that
                self._end(session)
            if made is not None:
                self._count(session)
                return made
            self._see_to(failure, session, device)

    def _present(self) -> OpenTower:
        """Wait while the tower is being replaced, and return it; the lock is held."""
        self._changed.wait_for(lambda: not self._is_replacing)
        if self._tower is None:
            assert self._given_up is not None
            # Anew for each thread: a traceback is written into what is raised.
            raise DeviceError(str(self._given_up), hint=self._given_up.hint)
        return self._tower

    def _end(self, session: int) -> None:
        with self._changed:
            self._in_work[session] -= 1
            if not self._in_work[session]:
                del self._in_work[session]
                self._changed.notify_all()

    def _count(self, session: int) -> None:
        """Note that a run of this session has worked, and tell if it is a new session's first."""
        with self._changed:
            if session != self._session or self._runs_since_reopening is None:
                return
            self._runs_since_reopening += 1
            untold, self._untold = self._untold, None
        if untold is not None:
            self._on_notice(f"{untold}; a new session goes on")

    def _see_to(self, failure: str, session: int, device: Device) -> None:
        """Put another tower in the place of the one that failed, or give up.

        Args:
            failure: What was wrong, naming the file.
            session: The number of the one that failed.
            device: Where that was.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_replacing)
            if session != self._session or self._tower is None:
                return  # another thread has seen to it
            # Until something goes on; also if what follows fails in a way that nobody expects.
            self._given_up = DeviceError(failure, hint=self._hint())
            self._tower = None
            self._session += 1
            self._is_replacing = True
        # No lock is held from here on, for this takes a while and calls what others wrote.
        try:
            notice = self._replace(failure, session, device)
        finally:
            with self._changed:
                self._is_replacing = False
                self._changed.notify_all()
        if notice is not None:
            self._on_notice(notice)

    def _replace(self, failure: str, session: int, device: Device) -> str | None:
        """Open the tower anew or a substitute for it; return what must be told, if anything."""
        runs = self._runs_since_reopening
        if runs is not None and runs < _STEADY_RUNS:
            return self._substitute(f"{failure}, also in a new session")
        with self._changed:
            self._changed.wait_for(lambda: not self._in_work[session], _LONGEST_WAIT_SECONDS)
        forget_probes()
        try:
            self._tower = self._reopen(device)
        except (DeviceError, ModelError) as error:
            return self._substitute(f"{failure}; and then {error}")
        self._runs_since_reopening = 0
        if runs is None:  # the first time only: a device may do this for weeks
            self._untold = failure
        return None

    def _substitute(self, failure: str) -> str | None:
        """Open the best substitute and return the notice; without one, no run succeeds any more."""
        self._runs_since_reopening = self._untold = None
        for substitute in () if self._substitutes is None else self._substitutes():
            try:
                self._tower = substitute.open()
            except ModelError as error:
                failure = f"{failure}; and then {error}"
            else:
                return f"{failure}; the CPU goes on, with {substitute.model}"
        if self._substitutes is not None:
            failure = f"{failure}; no installed tower makes the same vectors on the CPU"
        self._given_up = DeviceError(failure, hint=self._hint())
        return None

    def _hint(self) -> str:
        if self._runs_on_cpu():
            return "Try again, or use --device cpu."
        return "Try again; `siglip-search devices` tells whether the NPU works."
