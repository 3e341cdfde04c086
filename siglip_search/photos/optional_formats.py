"""Formats that are read only where an extra is installed; looked up without importing it."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from siglip_search.photos.formats import EXTENSIONS_BY_FORMAT, RAW_EXTENSIONS

_EXTRAS: dict[str, tuple[str, frozenset[bytes]]] = {
    "raw": ("rawpy", RAW_EXTENSIONS),
    "jxl": ("pillow_jxl", EXTENSIONS_BY_FORMAT["JXL"]),
}
"""Extra of this package -> the module that it brings, and the file name extensions it is for."""


@lru_cache(maxsize=8)
def is_extra_installed(extra: str) -> bool:
    """Tell whether an extra is there, without the time that loading it takes."""
    return find_spec(_EXTRAS[extra][0]) is not None


def raw_available() -> bool:
    """Tell whether a camera's RAW files can be read."""
    return is_extra_installed("raw")


def missing_extra(name: bytes) -> str | None:
    """Return the extra without which a file cannot be read, by the file's name.

    Args:
        name: File name, with or without its folder.

    Returns:
        None when nothing is missing.
    """
    extension = name.rpartition(b".")[2].lower()
    for extra, (_, extensions) in _EXTRAS.items():
        if extension in extensions and not is_extra_installed(extra):
            return extra
    return None


def extensions_by_extra() -> dict[str, frozenset[bytes]]:
    """Return, for each extra, the file name extensions that it is for, in lower case."""
    return {extra: extensions for extra, (_, extensions) in _EXTRAS.items()}


def install_line(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "siglip-search[{extra}]"'


def waits_no_more(failure: str) -> bool:
    """Tell whether a file could not be read for want of an extra that is there by now.

    Args:
        failure: The reason that was recorded, with the line of `install_line` in it.
    """
    return any(install_line(extra) in failure and is_extra_installed(extra) for extra in _EXTRAS)
