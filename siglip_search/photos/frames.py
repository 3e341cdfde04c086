"""What the decoding pool and its workers say to each other through their pipes.

A frame is the length of a JSON object as 4 bytes, the object, then as many raw bytes as it
announces under "raw_bytes". Nothing that a worker sends is unpickled: it has read hostile files.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, cast

_LENGTH = struct.Struct(">I")


def write_frame(stream: BinaryIO, header: dict[str, Any], raw: memoryview | None = None) -> None:
    """Send one frame.

    Args:
        stream: Blocking, binary, buffered.
        header: JSON-serialisable.
        raw: Contiguous bytes that follow.
    """
    if raw is not None:
        header = {**header, "raw_bytes": raw.nbytes}
    encoded = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(encoded)) + encoded)
    if raw is not None:
        stream.write(raw)
    stream.flush()


def read_header(stream: BinaryIO) -> dict[str, Any]:
    """Receive a frame up to its raw bytes.

    Raises:
        EOFError: If the other side is gone.
    """
    (length,) = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))
    header: dict[str, Any] = json.loads(_read_exactly(stream, length))
    return header


def read_raw(stream: BinaryIO, into: memoryview) -> None:
    """Receive a frame's raw bytes.

    Args:
        stream: Blocking, binary, buffered.
        into: Writable and contiguous, as long as the header announced.

    Raises:
        EOFError: If the other side is gone.
    """
    into = into.cast("B")
    while into.nbytes:
        received = cast("int | None", stream.readinto(into))  # type: ignore[attr-defined]
        if not received:
            raise EOFError
        into = into[received:]


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError
    return data
