"""One mounted volume, and the names by which volumes are told from one another."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SERIAL = re.compile(r"(?:[0-9A-F]{8})?([0-9A-F]{4})-?([0-9A-F]{4})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A place at which a volume, or a part of one, can be seen.

    Attributes:
        point: Absolute path of that place.
        source: What is mounted, as the operating system calls it: a device, or a share.
        kind: The operating system's name for the type of file system.
        part: What of the volume is seen there, "/"-separated and relative to the volume; empty
            for all of it. A bind mount or a subvolume shows a part.
    """

    point: bytes
    source: str
    kind: str
    part: bytes = b""


def file_system_identity(number: str) -> str | None:
    """Return the identity of a file system that carries this number, None when it says nothing.

    Args:
        number: A UUID, or the serial number that FAT, exFAT ("1A2B-3C4D") and NTFS (16 digits)
            have in its place. Of NTFS's only the last 8 digits count: Windows tells no more.
    """
    number = number.strip().upper()
    serial = _SERIAL.fullmatch(number)
    digits = number.replace("-", "")
    if not digits.strip("0") or not re.fullmatch(r"[0-9A-F]+", digits):
        return None
    if serial is not None:
        return f"serial:{serial[1]}-{serial[2]}"
    return f"uuid:{number.lower()}" if len(digits) == 32 else None


def share_identity(source: str) -> str:
    r"""Return the identity of a network share.

    Args:
        source: "server:/export", "//server/share", "//user@server/share" or "\\server\share".
            The names of servers and of Windows' shares know no case.
    """
    source = source.replace("\\", "/")
    if source.startswith("//"):
        _, _, place = source[2:].rpartition("@")
        return f"share://{place.rstrip('/').lower()}"
    server, colon, export = source.partition(":")
    if not colon:
        return f"share:{source}"
    return f"share:{server.lower()}:{export.rstrip('/') or '/'}"
