"""The protocol-buffer fields of an ONNX file, without loading it or even having it here.

The weights make up all but a few kilobytes of such a file. Walking its fields skips them, so that
a fact can be had from a file of gigabytes by reading a little of it, from disk or by range
requests. Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

MODEL_GRAPH: Final = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT = 1, 5, 12
NODE_INPUT, NODE_OUTPUT, NODE_OP_TYPE, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_FLOAT, ATTRIBUTE_TENSOR = 2, 5
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_FLOAT_DATA, TENSOR_NAME = 1, 2, 4, 8
TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 9, 10
TENSOR_EXTERNAL_DATA: Final = 13
ENTRY_KEY, ENTRY_VALUE = 1, 2
VALUE_INFO_NAME: Final = 1

_BLOCK_BYTES: Final = 65_536


class ReadRange(Protocol):
    """Reads bytes [start, start + count) of one file."""

    def __call__(self, start: int, count: int) -> bytes:
        """Return exactly `count` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: Which one, by the message's definition.
        kind: Wire type.
        begin: Where its value begins in the file.
        stop: Where its value ends.
    """

    number: int
    kind: int
    begin: int
    stop: int


class FieldReader:
    """Walks the messages in a file.

    Args:
        read_range: Reads a part of the file.
        size_bytes: Of the file.
    """

    def __init__(self, read_range: ReadRange, size_bytes: int) -> None:
        self._read_range = read_range
        self.size_bytes = size_bytes
        self._block_begin = 0
        self._block = b""

    def content(self, begin: int, stop: int) -> bytes:
        """Return the bytes [begin, stop)."""
        if not (self._block_begin <= begin and stop <= self._block_begin + len(self._block)):
            # Small fields stand close together: what is beside them comes with the first.
            count = max(stop - begin, min(_BLOCK_BYTES, self.size_bytes - begin))
            self._block_begin, self._block = begin, self._read_range(begin, count)
        offset = begin - self._block_begin
        return self._block[offset : offset + stop - begin]

    def text(self, field: Field) -> str:
        """Return a field that holds text.

        Raises:
            UnicodeDecodeError: If it holds none, which is a ValueError.
        """
        return self.content(field.begin, field.stop).decode()

    def fields(self, begin: int, stop: int) -> Iterator[Field]:
        """Yield the fields of the message in [begin, stop).

        Raises:
            ValueError: If this is no protocol buffer.
        """
        place = begin
        while place < stop:
            key, place = self.varint(place)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                start, end = place, self.varint(place)[1]
            elif kind == BYTES:
                length, start = self.varint(place)
                end = start + length
            elif kind in (FIXED32, FIXED64):
                start, end = place, place + (4 if kind == FIXED32 else 8)
            else:
                raise ValueError(f"wire type {kind}")
            if end > stop:
                raise ValueError("a field reaches beyond its message")
            yield Field(number, kind, start, end)
            place = end

    def messages(self, begin: int, stop: int, wanted: int) -> Iterator[Field]:
        """Yield the fields called `wanted` that hold bytes: messages, texts and packed numbers."""
        for field in self.fields(begin, stop):
            if field.number == wanted and field.kind == BYTES:
                yield field

    def varint(self, place: int) -> tuple[int, int]:
        """Return the number that begins at `place`, and where it ends.

        Raises:
            ValueError: If there is none.
        """
        value = shift = 0
        while True:
            if place >= self.size_bytes:
                raise ValueError("a number reaches beyond the file")
            byte = self.content(place, place + 1)[0]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")


@contextmanager
def open_fields(path: Path) -> Iterator[FieldReader]:
    """Give a reader of a file on disk.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is empty.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
        yield FieldReader(lambda begin, count: file[begin : begin + count], len(file))
