"""What goes wrong inside the imaging libraries, as one line for people."""

from __future__ import annotations

import unicodedata

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.fingerprint import is_storage_failure, refused_read

_REASON_MAX_CHARACTERS = 120


def unreadable(
    error: Exception, picture_format: str, max_memory_bytes: int
) -> UnreadablePictureError:
    """Turn an exception from inside the imaging libraries into a reason for people.

    Args:
        error: One of `BAD_DATA_ERRORS`.
        picture_format: What the file is or claims to be.
        max_memory_bytes: The limit that is named when memory was short.

    Returns:
        For the caller to raise; a TryAgainError when the storage failed.
    """
    if isinstance(error, OSError) and is_storage_failure(error):
        return refused_read(error)
    message = one_line(str(error))
    if isinstance(error, MemoryError) or "memory" in message.lower():
        return UnreadablePictureError(needs_more_memory(max_memory_bytes))
    if isinstance(error, EOFError) or "truncated" in message.lower():
        return UnreadablePictureError(f"truncated {picture_format}")
    if isinstance(error, NotImplementedError) or message.lower().startswith("unsupported"):
        return UnreadablePictureError(f"unsupported {picture_format}{_detail(message)}")
    # The words of a KeyError or TypeError from inside a plugin help nobody; nor do those of a
    # seek to a place that the file made up, the only errors with a number left here.
    says_something = isinstance(error, OSError | SyntaxError | ValueError | RuntimeError)
    if not says_something or getattr(error, "errno", None) is not None:
        message = ""
    return UnreadablePictureError(f"damaged {picture_format}{_detail(message)}")


def needs_more_memory(max_memory_bytes: int) -> str:
    """Return the reason that is given when a picture exceeds the limit of memory."""
    gibibytes = max_memory_bytes / 1024**3
    return f"needs more than {gibibytes:.3g} GiB of memory"


def too_many_pixels(width: int, height: int, max_pixels: int) -> str:
    """Return the reason that is given when a picture exceeds the limit of pixels."""
    return f"{width} x {height} pixels is more than the limit of {max_pixels:,} (--max-pixels)"


def one_line(text: str) -> str:
    """Return printable text of at most 120 characters without a full stop at its end."""
    printable = "".join(
        " " if unicodedata.category(character).startswith(("C", "Z")) else character
        for character in text[: 10 * _REASON_MAX_CHARACTERS]
    )
    return " ".join(printable.split())[:_REASON_MAX_CHARACTERS].rstrip(" .")


def _detail(message: str) -> str:
    return f": {message}" if message else ""
