"""Who is at the other end of a Unix socket, where the operating system tells."""

from __future__ import annotations

import os
import socket
import struct
import sys

# sys/un.h of macOS and the BSDs; Python has no names for them.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_XUCRED_BYTES = 76


def is_same_user(line: socket.socket) -> bool:
    """Tell whether the other end runs as this user; True where the system does not tell.

    Raises:
        OSError: The connection is broken.
    """
    user = peer_user(line)
    return user is None or user == os.getuid()


def peer_user(line: socket.socket) -> int | None:
    """Return the user id of the other end, as it was when the connection was made.

    Raises:
        OSError: The connection is broken.
    """
    if sys.platform == "linux":
        # struct ucred: pid, uid, gid
        found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("iII", found)[1])
    if sys.platform == "darwin":
        # struct xucred: version, uid, and groups
        found = line.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return int(struct.unpack_from("=II", found)[1])
    return None
