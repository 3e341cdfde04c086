"""A look into an ONNX file without loading it: how many words does its token table have?

The runtime does not tell, and its own check comes late: only a text with a rare word fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search.models import onnx_fields as onnx
from siglip_search.models.onnx_fields import Field, FieldReader, open_fields

if TYPE_CHECKING:
    from pathlib import Path

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
        with open_fields(path) as reader:
            return _rows(reader, input_name.encode())
    except (OSError, ValueError):
        # Unreadable here only means unknown: whether the file is sound is the runtime's to say.
        return None


def _rows(reader: FieldReader, input_name: bytes) -> int | None:
    ids = {input_name}
    table: bytes | None = None
    sizes: dict[bytes, int] = {}
    for graph in reader.messages(0, reader.size_bytes, onnx.MODEL_GRAPH):
        for part in reader.fields(graph.begin, graph.stop):
            if part.kind != onnx.BYTES:
                continue
            # Nodes are in order of use, so the look-up is among the first: the rest is skipped.
            if part.number == onnx.GRAPH_NODE and table is None:
                table = _looked_up_by(reader, part, ids)
            elif part.number == onnx.GRAPH_INITIALIZER:
                name, rows = _name_and_rows(reader, part)
                if rows is not None:
                    sizes[name] = rows
    return None if table is None else sizes.get(table)


def _looked_up_by(reader: FieldReader, node: Field, ids: set[bytes]) -> bytes | None:
    """Return the table if the node looks ids up; else note in `ids` what still holds them."""
    inputs, outputs, operator = [], [], b""
    for part in reader.fields(node.begin, node.stop):
        if part.kind != onnx.BYTES:
            continue
        if part.number == onnx.NODE_INPUT:
            inputs.append(reader.content(part.begin, part.stop))
        elif part.number == onnx.NODE_OUTPUT:
            outputs.append(reader.content(part.begin, part.stop))
        elif part.number == onnx.NODE_OP_TYPE:
            operator = reader.content(part.begin, part.stop)
    if operator == b"Gather" and len(inputs) == 2 and inputs[1] in ids:
        return inputs[0]
    if operator in _ID_PRESERVING and inputs and inputs[0] in ids:
        ids.update(outputs)
    return None


def _name_and_rows(reader: FieldReader, tensor: Field) -> tuple[bytes, int | None]:
    name, rows = b"", None
    for part in reader.fields(tensor.begin, tensor.stop):
        if part.number == onnx.TENSOR_NAME and part.kind == onnx.BYTES:
            name = reader.content(part.begin, part.stop)
        elif part.number == onnx.TENSOR_DIMS and rows is None and part.stop > part.begin:
            # The first of the dimensions, whether they are packed into one field or not.
            rows = reader.varint(part.begin)[0]
    return name, rows
