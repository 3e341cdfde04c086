"""An NPU that fails on command, for machines without one.

Only its session is played: files are checked, opened and run by the real code, on the processor.
What a real session of the NPU does when it fails is tested on the emulator.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from siglip_search.errors import DeviceError
from siglip_search.towers import devices, session_qnn
from siglip_search.towers.devices import DeviceReport
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

    from siglip_search.towers.session import Assignment, Device, TensorInfo


@dataclass
class FailingNpu:
    """Decides when it fails, and notes what was done with it.

    Attributes:
        fails: Given the number of a session and of its run, both from 1: whether that run fails.
        crashed: What a probe finds; "" if all is well.
        turned: Its vectors point the other way than the processor's, so that each tells where it
            was made.
        stands_for: The files with which compiled contexts compute here, by the contexts' names.
        sessions: How many were opened.
        runs: How many succeeded or failed, all sessions together.
        alive_at_opening: How many older sessions were there when each was opened.
        before_run: Called before each run, in its thread.
    """

    fails: Callable[[int, int], bool] = lambda _session, _run: False
    crashed: str = ""
    turned: bool = False
    stands_for: dict[str, Path] = field(default_factory=dict)
    sessions: int = 0
    runs: int = 0
    alive_at_opening: list[int] = field(default_factory=list)
    before_run: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    alive: weakref.WeakSet[PlayedSession] = field(default_factory=weakref.WeakSet)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `devices` find it as the NPU and as the emulator."""

        def report(device: Any, *_: object, **__: object) -> DeviceReport:
            return DeviceReport(device, not self.crashed, reason=self.crashed, hint="Mend it.")

        def session(path: Path, *, emulator: bool, **_: object) -> PlayedSession:
            return PlayedSession(self, path, "npu-emulator" if emulator else "npu")

        monkeypatch.setattr(devices, "_npu_report", report)
        monkeypatch.setattr(session_qnn, "QnnSession", session)


class PlayedSession:
    """A session of the played NPU."""

    assignment: Assignment | None = None

    def __init__(self, npu: FailingNpu, path: Path, device: Device) -> None:
        facts = graph_facts(path)
        compiled = facts is not None and facts.compiled
        self._npu, self._path, self.device = npu, path, device
        self._runs = 0
        with npu.lock:
            npu.alive_at_opening.append(len(npu.alive))
            npu.alive.add(self)
            npu.sessions += 1
            self._number = npu.sessions
        self._session = CpuSession(npu.stands_for[path.name] if compiled else path)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self._session.outputs

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        with self._npu.lock:
            self._runs += 1
            self._npu.runs += 1
            fails = self._npu.fails(self._number, self._runs)
        self._npu.before_run()
        if fails:
            raise DeviceError(f"{self._path} failed on the {self.device}: Code: 1007", hint="Wait.")
        results = self._session.run(feeds, outputs)
        return [np.negative(one) for one in results] if self._npu.turned else list(results)


def write_context(path: Path) -> None:
    """Write a file that wraps a compiled context; the binary that it names is not there."""
    node = helper.make_node(
        "EPContext",
        ["fed"],
        ["embedding"],
        domain="com.microsoft",
        embed_mode=0,
        main_context=1,
        ep_cache_context="tower.bin",
    )
    fed = helper.make_tensor_value_info("fed", TensorProto.FLOAT, [1])
    made = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph([node], "context", [fed], [made])), str(path))
