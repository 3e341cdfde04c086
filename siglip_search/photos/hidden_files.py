"""What a system hides from a person."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

_WINDOWS_HIDDEN = getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 0x2)


def is_hidden(name: bytes, status: os.stat_result | None) -> bool:
    """Tell whether a file or folder is hidden by its name or, on Windows, by its attribute.

    Args:
        name: Its last part.
        status: None where only the name counts.
    """
    attributes: int = getattr(status, "st_file_attributes", 0)
    return name.startswith(b".") or bool(attributes & _WINDOWS_HIDDEN)
