"""Reading the .siglipignore file of a folder."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_search.errors import NotAPictureError
from siglip_search.photos.fingerprint import OnlineOnlyError, TryAgainError, open_regular
from siglip_search.photos.ignore_rules import IgnoreRules

IGNORE_FILE_NAME = b".siglipignore"
"""Name of the file with gitignore-style patterns for the folder that it lies in, and below."""

_MAX_BYTES = 1024 * 1024


class UnusableIgnoreFileError(Exception):
    """There is such a file and it cannot be read: its owner wanted something left out."""


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """Patterns that apply below a folder.

    Attributes:
        folder: Root-relative path of the folder.
        prefix_length: Length of that path with its "/".
        rules: Judge paths relative to the folder.
    """

    folder: bytes
    prefix_length: int
    rules: IgnoreRules


def read_ignore_file(
    absolute: bytes, folder: bytes, *, download_cloud: bool = False
) -> IgnoreFile | None:
    """Read the .siglipignore file of a folder.

    Args:
        absolute: Absolute path of the file.
        folder: Root-relative path of the folder that it lies in.
        download_cloud: Read it even if only the cloud has it.

    Returns:
        None when there is none.

    Raises:
        UnusableIgnoreFileError: It cannot be read, with the reason.
    """
    try:
        with open_regular(absolute, download_cloud=download_cloud) as file:
            text = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OnlineOnlyError as error:
        raise UnusableIgnoreFileError(
            f"its .siglipignore file: {error}; --download-cloud reads it"
        ) from None
    except (NotAPictureError, TryAgainError) as error:
        raise UnusableIgnoreFileError(f"its .siglipignore file: {error}") from None
    except OSError as error:
        raise UnusableIgnoreFileError(error.strerror or type(error).__name__) from None
    if len(text) > _MAX_BYTES:
        raise UnusableIgnoreFileError("its .siglipignore file is larger than 1 MiB")
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return IgnoreFile(
        folder=folder,
        prefix_length=len(folder) + 1 if folder else 0,
        rules=IgnoreRules(lines, lenient=True),
    )
