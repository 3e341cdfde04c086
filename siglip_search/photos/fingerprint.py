"""Opening files safely, and telling their contents apart."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, cast

from siglip_index.records import Fingerprint
from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.cloud_placeholder import is_online_only

if TYPE_CHECKING:
    import io

# O_NONBLOCK: opening a pipe for reading waits for a writer for ever, whatever the file is called.
# O_NOCTTY: a terminal must not become ours. Windows has neither, and needs O_BINARY.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOINHERIT", 0)
    | getattr(os, "O_BINARY", 0)
)

# The errors that opening something other than a regular file meets: a socket gives ENXIO or
# EOPNOTSUPP, a device without hardware ENODEV.
_NOT_REGULAR_ERRNOS = frozenset({errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.EISDIR})

# What a disk or a network drive answers when it fails. A seek to a place that a damaged file made
# up is an OSError too (EINVAL), but says something about the content.
_STORAGE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EIO", "ENXIO", "ENODEV", "EREMOTEIO", "ESTALE", "ETIMEDOUT"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN", "ECONNRESET"),
    )
    if hasattr(errno, name)
)

CONTENT_HASH_BYTES = 32
"""Length of what `content_hash` returns."""


class TryAgainError(UnreadablePictureError):
    """The file could not be read now, which says nothing about its content."""


class ChangedWhileReadError(TryAgainError):
    """The file changed while it was being read, so that nothing found holds."""

    def __init__(self) -> None:
        super().__init__("it changed while it was being read", hint="The next run tries it again.")


class OnlineOnlyError(TryAgainError):
    """Only the cloud has the file: reading would download it, which nobody asked for."""

    def __init__(self) -> None:
        super().__init__(
            "only the cloud has it", hint="`siglip-search index --download-cloud` reads it."
        )


def open_regular(path: bytes, *, download_cloud: bool = False) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for a pipe or a device.

    Args:
        path: Absolute path, or relative to the working directory.
        download_cloud: Open it even if reading downloads it.

    Raises:
        FileNotFoundError: If nothing is there (any more).
        NotAPictureError: If it is a folder, pipe, socket or device.
        OnlineOnlyError: If only the cloud has it.
        TryAgainError: If the operating system refuses.
    """
    # Asked right before, because on Windows some files are fetched as soon as they are opened.
    if not download_cloud and would_download(path):
        raise OnlineOnlyError
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        # A folder above it that became a file is the same news: nothing is there.
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        if error.errno in _NOT_REGULAR_ERRNOS or _is_folder(path):
            raise NotAPictureError("not a regular file") from None
        raise refused_read(error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAPictureError("not a regular file")
        return cast("BinaryIO", os.fdopen(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise


def would_download(path: bytes) -> bool:
    """Tell whether opening a file would download it; False where nothing can be said.

    Args:
        path: Absolute path, or relative to the working directory.
    """
    try:
        return is_online_only(path, os.stat(path))
    except OSError:
        return False  # opening it tells why


def _is_folder(path: bytes) -> bool:
    # Windows reports a folder that is opened as a file as "permission denied".
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


def is_storage_failure(error: Exception) -> bool:
    """Tell a failing disk or network drive from a damaged file."""
    return isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS


def refused_read(error: OSError) -> TryAgainError:
    """Turn an error of the operating system into a reason without the path in it."""
    return TryAgainError(f"cannot be read: {error.strerror or 'input/output error'}")


def fingerprint(status: os.stat_result) -> Fingerprint:
    """Return what one stat or fstat call tells about a file's content."""
    # Listing a folder gives no inode on Windows: there it must be 0 everywhere, or the
    # fingerprint of a scan would never equal that of the file when it is opened.
    inode = 0 if os.name == "nt" else status.st_ino
    return Fingerprint(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=inode)


def content_hash(file: BinaryIO) -> bytes:
    """Return the SHA-256 of a whole file, reading it in pieces.

    Args:
        file: Open for reading; read from its beginning, left at its end.

    Returns:
        CONTENT_HASH_BYTES bytes.
    """
    # SHA-256 runs at 1.8 GB/s on processors with its instructions (x86-64 since 2017-19, all
    # 64-bit ARM of interest), BLAKE2b at 1.3; and anybody can check it with `sha256sum`.
    file.seek(0)
    return hashlib.file_digest(cast("io.BytesIO", file), "sha256").digest()
