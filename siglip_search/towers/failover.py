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
    others wait for it.

    Args:
        tower: Open, and held by nobody else: it is let go of before it is opened anew.
        reopen: Opens it once more on the device that it names.
        substitutes: Called once, after the device has failed for good: what may go on instead, the
            best first. None if nothing may, because the user has asked for this device by name.
        runs_on_cpu: Whether the model's own tower could run on the processor, for the hint.
        on_notice: Called with one line when a new session has worked, the first time only, and
            when a substitute goes on; in whichever thread finds it.
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
        self._lock = threading.Lock()
        self._session = 0  # how many came before the present one
        self._runs_since_reopening: int | None = None
        self._untold: str | None = None
        self._given_up: DeviceError | None = None

    @property
    def tower(self) -> OpenTower:
        """What runs now.

        Raises:
            DeviceError: Nothing does any more.
        """
        return self._present()[0]

    def run(self, work: Callable[[EmbeddingGraph], NDArray[np.float32]]) -> Embedded:
        """Return what `work` makes, all of it with one tower, and which that was.

        Args:
            work: Runs the graph; it is called again when the device fails meanwhile.

        Raises:
            ModelError: The tower refuses the input, or its result is no direction.
            DeviceError: The device failed for good, and nothing may or can take its place.
        """
        while True:
            tower, session = self._present()
            try:
                vectors = work(tower.graph)
            except DeviceError as error:
                # Not kept itself: the frames that hang on it keep the void session alive.
                failure = str(error)
            else:
                self._count(session)
                return Embedded(vectors, tower.precision, tower.opened.device)
            device = tower.opened.device
            del tower
            self._see_to(failure, session, device)

    def _present(self) -> tuple[OpenTower, int]:
        with self._lock:
            if self._tower is None:
                assert self._given_up is not None
                # Anew for each thread: a traceback is written into what is raised.
                raise DeviceError(str(self._given_up), hint=self._given_up.hint)
            return self._tower, self._session

    def _count(self, session: int) -> None:
        with self._lock:
            if session != self._session or self._runs_since_reopening is None:
                return
            self._runs_since_reopening += 1
            if self._untold is not None:
                self._on_notice(f"{self._untold}; a new session goes on")
                self._untold = None

    def _see_to(self, failure: str, session: int, device: Device) -> None:
        """Put another tower in the place of the one that failed, or give up.

        Args:
            failure: What was wrong, naming the file.
            session: The number of the one that failed.
            device: Where that was.
        """
        with self._lock:
            if session != self._session or self._tower is None:
                return  # another thread has seen to it
            self._tower = None
            # Until something goes on; also if what follows fails in a way that nobody expects.
            self._given_up = DeviceError(failure, hint=self._hint())
            self._session += 1
            runs = self._runs_since_reopening
            if runs is None or runs >= _STEADY_RUNS:
                forget_probes()
                try:
                    self._tower = self._reopen(device)
                except (DeviceError, ModelError) as error:
                    failure = f"{failure}; and then {error}"
                else:
                    self._runs_since_reopening = 0
                    if runs is None:  # the first time only: a device may do this for weeks
                        self._untold = failure
                    return
            else:
                failure = f"{failure}, also in a new session"
            self._substitute(failure)

    def _substitute(self, failure: str) -> None:
        """Open the best substitute; without one, no run succeeds from now on."""
        self._runs_since_reopening = self._untold = None
        for substitute in () if self._substitutes is None else self._substitutes():
            try:
                self._tower = substitute.open()
            except ModelError as error:
                failure = f"{failure}; and then {error}"
            else:
                self._on_notice(f"{failure}; the CPU goes on, with {substitute.model}")
                return
        if self._substitutes is not None:
            failure = f"{failure}; no installed tower makes the same vectors on the CPU"
        self._given_up = DeviceError(failure, hint=self._hint())

    def _hint(self) -> str:
        if self._runs_on_cpu():
            return "Try again, or use --device cpu."
        return "Try again; `siglip-search devices` tells whether the NPU works."
