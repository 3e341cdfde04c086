"""A ready-made context as a tower: pixels and ids go in, numbers come out, as everywhere else.

What others compile takes pictures with the channels last or first, and often integers in place of
floating-point numbers. A context is one node, and a node before it would run on the processor,
which a session for the NPU refuses; so the arrays are brought into shape here. What the context
takes and gives stands in the metadata of the file that wraps it, put there by `model import`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.models.onnx_fields import ENTRY_KEY, ENTRY_VALUE, open_fields
from siglip_search.towers.session import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.towers.devices import OpenedSession
    from siglip_search.towers.session import Session

Layout = Literal["NCHW", "NHWC", "ids"]

METADATA_KEY: Final = "siglip_search.context_io"
"""Entry of the wrapping file's metadata that holds a `ContextIO` as JSON."""

_MODEL_METADATA: Final = 14
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ContextTensor:
    """One input or output as the context itself has it.

    Attributes:
        name: Its name.
        dtype: numpy's name of the element type.
        shape: Size of each axis.
        scale: Of one step, > 0; None for numbers that are what they say.
        zero_point: The integer that stands for 0.0.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int = 0

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest number that it can hold."""
        if self.scale is None:
            return (-np.inf, np.inf)
        limits = np.iinfo(self.dtype)
        return (
            (int(limits.min) - self.zero_point) * self.scale,
            (int(limits.max) - self.zero_point) * self.scale,
        )

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return numbers as the context takes them; what is out of range goes to its end."""
        if self.scale is None:
            return values.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        steps = np.rint(values / np.float32(self.scale)) + self.zero_point
        stored: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return stored

    def numbers(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the numbers that the context gave."""
        numbers = stored.astype(np.float32)
        if self.scale is not None:
            numbers = (numbers - np.float32(self.zero_point)) * np.float32(self.scale)
        return numbers


@dataclass(frozen=True, slots=True)
class ContextIO:
    """What a tower's context takes and gives.

    Attributes:
        input: What must be fed: pixels or ids, for one picture or text.
        layout: Of the pixels; "ids" for a text tower.
        output: The embedding, in as many axes as it likes.
    """

    input: ContextTensor
    layout: Layout
    output: ContextTensor

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> ContextIO:
        """Return what was written.

        Raises:
            ValueError: If it is something else.
        """
        try:
            values = json.loads(text)
            if values["format"] != _FORMAT:
                raise ValueError(f"of format {values['format']!r}")
            return cls(_tensor(values["input"]), values["layout"], _tensor(values["output"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete: {error}") from error


def _tensor(values: dict[str, Any]) -> ContextTensor:
    return ContextTensor(**{**values, "shape": tuple(values["shape"])})


def tower_session(opened: OpenedSession) -> Session:
    """Return a session that takes and gives what towers do, whatever the file behind it does.

    Raises:
        ModelError: If the file wraps a context and does not say what that takes.
    """
    # Contexts are the only files that are wrapped, and no context runs on the processor.
    if opened.device == "cpu":
        return opened.session
    io = _wrapped_io(opened.path)
    return opened.session if io is None else WrappedSession(opened.session, io)


class WrappedSession:
    """A context's session, with its arrays brought into shape on the way in and out.

    Args:
        session: The context's own.
        io: What it takes and gives.
    """

    def __init__(self, session: Session, io: ContextIO) -> None:
        self._session = session
        self._io = io
        # Where the channels stand last in the context, they come first here.
        order = (0, 3, 1, 2) if io.layout == "NHWC" else range(len(io.input.shape))
        self._inputs = (
            TensorInfo(
                io.input.name,
                io.input.dtype if io.layout == "ids" else "float32",
                tuple(io.input.shape[axis] for axis in order),
            ),
        )
        self._outputs = (TensorInfo(io.output.name, "float32", (1, int(np.prod(io.output.shape)))),)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The one input, as towers have it."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The embedding, shape (1, dimension)."""
        return self._outputs

    @property
    def device(self) -> str:
        """Where it runs: "npu" or "npu-emulator"."""
        return self._session.device

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.generic]]:
        """Return the embedding, float32 of shape (1, dimension).

        Args:
            feeds: Pixels, float32 of shape (1, 3, height, width), or ids, by the input's name.
            outputs: The output's name.

        Raises:
            ModelError: If the context refuses them.
            DeviceError: If the NPU fails.
        """
        assert list(outputs) == [self._io.output.name]
        values = feeds[self._io.input.name]
        if self._io.layout == "NHWC":
            values = values.transpose(0, 2, 3, 1)
        fed = np.ascontiguousarray(self._io.input.stored(values))
        (given,) = self._session.run({self._io.input.name: fed}, outputs)
        return [self._io.output.numbers(given).reshape(1, -1)]


def _wrapped_io(path: Path) -> ContextIO | None:
    """Return what a file says of the context that it wraps; None for any other file."""
    with open_fields(path) as reader:
        for entry in reader.messages(0, reader.size_bytes, _MODEL_METADATA):
            texts = {
                part.number: reader.content(part.begin, part.stop).decode(errors="replace")
                for part in reader.fields(entry.begin, entry.stop)
            }
            if texts.get(ENTRY_KEY) == METADATA_KEY:
                try:
                    return ContextIO.from_json(texts.get(ENTRY_VALUE, ""))
                except ValueError as error:
                    raise ModelError(
                        f"{path} does not say what its context takes: {error}",
                        hint="Import the binary again: siglip-search model import",
                    ) from error
    return None
