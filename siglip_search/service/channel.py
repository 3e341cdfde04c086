"""JSON objects over a socket, each after its length, with limits on size and time.

Four bytes, big-endian, say how many bytes of JSON follow. Both ends may be killed, hang, or be
something else altogether: nothing here waits longer, or takes more memory, than it was told to.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

# A shell hands over 2 MiB of arguments at most; escaping makes at most six bytes of each.
REQUEST_BYTES = 16 * 1024 * 1024
# Reports list every picture that failed, answers every copy.
REPLY_BYTES = 64 * 1024 * 1024
# A word amid a conversation.
WORD_BYTES = 4096

_LENGTH = struct.Struct(">I")

# How often a waiting thread looks up; the other end's bytes wake it at once.
_BREATH_SECONDS = 0.2


class PartnerGoneError(Exception):
    """The other end has closed the connection, or is dead."""


class BadMessageError(Exception):
    """What came, or was to be sent, is no message, or too large."""


class Channel:
    """One end of a conversation. One thread may send while another receives.

    Args:
        line: A connected socket, which from now on is the channel's.
    """

    def __init__(self, line: socket.socket) -> None:
        # One constant for both directions, which threads share; deadlines are kept by hand.
        line.settimeout(_BREATH_SECONDS)
        self._line = line
        self._received = bytearray()
        self._sending = threading.Lock()

    def send(
        self, message: dict[str, Any], *, seconds: float | None = None, limit: int = REPLY_BYTES
    ) -> None:
        """Send a message.

        Args:
            message: JSON knows all of it.
            seconds: For the whole of it; None for as long as the other end takes.
            limit: Bytes.

        Raises:
            BadMessageError: It is larger; nothing was sent.
            PartnerGoneError: The connection is broken.
            TimeoutError: The other end did not take it in time; the connection is of no use
                any more.
        """
        content = json.dumps(message, separators=(",", ":")).encode("ascii")
        if len(content) > limit:
            raise BadMessageError(f"a message of {len(content):,} bytes is too large to be sent")
        deadline = None if seconds is None else time.monotonic() + seconds
        left = memoryview(_LENGTH.pack(len(content)) + content)
        with self._sending:
            while left:
                try:
                    left = left[self._line.send(left) :]
                except TimeoutError:
                    _look_at_clock(deadline)
                except OSError as error:
                    raise PartnerGoneError(str(error)) from error

    def receive(self, *, seconds: float | None = None, limit: int = REPLY_BYTES) -> dict[str, Any]:
        """Return the next message.

        Args:
            seconds: For the whole of it; None for as long as it takes.
            limit: Bytes.

        Raises:
            BadMessageError: It is larger, or no JSON object.
            PartnerGoneError: The connection is broken, or ended.
            TimeoutError: It did not come in time; what came of it is kept for the next call.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while (content := self._complete(limit)) is None:
            try:
                piece = self._line.recv(65536)
            except TimeoutError:
                piece = None
            except OSError as error:
                raise PartnerGoneError(str(error)) from error
            if piece == b"":
                raise PartnerGoneError("the connection has ended")
            if piece is not None:
                self._received += piece
            # Also after some bytes: one a second would otherwise hold this up for ever.
            _look_at_clock(deadline)
        try:
            message = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadMessageError(f"what came is no JSON: {error}") from error
        if not isinstance(message, dict):
            raise BadMessageError("what came is no JSON object")
        return message

    def shut(self) -> None:
        """Break the connection; threads that wait for it go on at once."""
        import socket

        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break the connection and give the socket back."""
        self.shut()
        self._line.close()

    def _complete(self, limit: int) -> bytes | None:
        """Return the content of the first message if all of it has come, and forget it."""
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if length > limit:
            raise BadMessageError(f"a message of {length:,} bytes is too large")
        end = _LENGTH.size + length
        if len(self._received) < end:
            return None
        content = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return content


def _look_at_clock(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("the other end took too long")
