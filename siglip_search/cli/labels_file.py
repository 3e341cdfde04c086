"""A file of labels that the user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search.errors import PathError
from siglip_search.search.vocabulary import labels_in
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 4_000_000
"""Five times as much as the most labels of the greatest length. A device may go on for ever."""


def read_labels_file(file: str) -> tuple[Path, tuple[str, ...]]:
    """Return the absolute path of a labels file, and its labels.

    Args:
        file: As it was typed.

    Raises:
        PathError: It cannot be read, is no UTF-8 text, or far too long.
        QueryError: What is in it is no list of labels.
    """
    path = absolute_path(file)
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise PathError(
                f"the labels file {path} is longer than {_MAX_BYTES:,} bytes",
                hint="Name a text file with one label a line.",
            )
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise PathError(
            f"the labels file {path} is no UTF-8 text (byte {error.start + 1})",
            hint="Save it as UTF-8.",
        ) from error
    except OSError as error:
        raise PathError(
            f"the labels file {path} cannot be read: {error.strerror}",
            hint="Name a text file with one label a line.",
        ) from error
    return path, labels_in(text, name=str(path))
