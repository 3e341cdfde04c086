"""A look into an ONNX file without loading it: how many words does its token table have?

The runtime does not tell, and its own check comes late: only a text with a rare word fails. So
the file's protocol-buffer fields are walked here; the weights between them are skipped, not read.
Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_GRAPH: Final = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8

_ID_PRESERVING: Final = frozenset({b"Cast", b"Identity", b"Reshape", b"Squeeze", b"Unsqueeze"})


def token_table_rows(path: Path, input_name: str) -> int | None:
    """Return the number of rows of the table that the token ids are looked up in.

    Args:
        path: ONNX file of a text tower.
        input_name: The graph's input that holds the ids.

    Returns:
        The rows, or None where the graph does not show them plainly (a computed table, say).
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
            return _rows(m, input_name.encode())
    except (OSError, ValueError, IndexError):
        # Unreadable here only means unknown: whether the file is sound is the runtime's to say.
        return None


def _rows(file: mmap.mmap, input_name: bytes) -> int | None:
    ids = {input_name}
    table: bytes | None = None
    sizes: dict[bytes, int] = {}
    for graph_start, graph_end in _messages(file, 0, len(file), _MODEL_GRAPH):
        for number, kind, start, end in _fields(file, graph_start, graph_end):
            if kind != _BYTES:
                continue
            # Nodes are in order of use, so the look-up is among the first: the rest is skipped.
            if number == _GRAPH_NODE and table is None:
                table = _looked_up_by(file, start, end, ids)
            elif number == _GRAPH_INITIALIZER:
                name, rows = _name_and_rows(file, start, end)
                if rows is not None:
                    sizes[name] = rows
    return None if table is None else sizes.get(table)


def _looked_up_by(file: mmap.mmap, start: int, end: int, ids: set[bytes]) -> bytes | None:
    """Return the table if the node looks ids up; else note in `ids` what still holds them."""
    inputs, outputs, operator = [], [], b""
    for number, kind, begin, stop in _fields(file, start, end):
        if kind != _BYTES:
            continue
        if number == _NODE_INPUT:
            inputs.append(file[begin:stop])
        elif number == _NODE_OUTPUT:
            outputs.append(file[begin:stop])
        elif number == _NODE_OP_TYPE:
            operator = file[begin:stop]
    if operator == b"Gather" and len(inputs) == 2 and inputs[1] in ids:
        return inputs[0]
    if operator in _ID_PRESERVING and inputs and inputs[0] in ids:
        ids.update(outputs)
    return None


def _name_and_rows(file: mmap.mmap, start: int, end: int) -> tuple[bytes, int | None]:
    name, rows = b"", None
    for number, kind, begin, stop in _fields(file, start, end):
        if number == _TENSOR_NAME and kind == _BYTES:
            name = file[begin:stop]
        elif number == _TENSOR_DIMS and rows is None:
            # The first of the dimensions, whether they are packed into one field or not.
            rows = _varint(file, begin)[0] if stop > begin else None
    return name, rows


def _messages(file: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    for number, kind, begin, stop in _fields(file, start, end):
        if number == wanted and kind == _BYTES:
            yield begin, stop


def _fields(file: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type and the place of the value of every field in [start, end).

    Raises:
        ValueError: If this is no protocol buffer.
    """
    place = start
    while place < end:
        key, place = _varint(file, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            begin, stop = place, _varint(file, place)[1]
        elif kind == _BYTES:
            length, begin = _varint(file, place)
            stop = begin + length
        elif kind in (_FIXED32, _FIXED64):
            begin, stop = place, place + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind}")
        if stop > end:
            raise ValueError("a field reaches beyond its message")
        yield number, kind, begin, stop
        place = stop


def _varint(file: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = file[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
