"""What the towers ask of an inference session, whatever the device behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


Device = Literal["auto", "npu", "cpu", "npu-emulator"]
DEVICES: Final = get_args(Device)
"""What a user may ask for; see `devices.open_session`."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a session.

    Attributes:
        name: Its name in the graph.
        dtype: numpy's name of the element type, such as "float32" or "int64".
        shape: One entry per axis; None where any size is taken.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a graph's nodes run, after the runtime's optimisations.

    Attributes:
        npu: Nodes on the NPU; a compiled context is one.
        cpu: Nodes on the processor; 0 in every session that opens.
    """

    npu: int
    cpu: int


class Session(Protocol):
    """An open tower; `run` may be called from several threads at once."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs that must be fed."""
        ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs that can be asked for."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "npu" or "npu-emulator"."""
        ...

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.generic]]:
        """Return the named outputs for the given inputs.

        Raises:
            ModelError: If the graph refuses them.
            DeviceError: If the device fails; the same inputs may succeed elsewhere.
        """
        ...
