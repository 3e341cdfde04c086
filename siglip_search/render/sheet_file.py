"""A contact sheet as a file that the user names."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siglip_search.render.contact_sheet import SheetRow

_HTML: Final = (".html", ".htm")
SUFFIXES: Final = (".png", *_HTML)

_LOOKED_AT_BYTES: Final = 1024


def check_sheet(path: Path) -> None:
    """Raise now what `save_sheet` would raise after the search.

    Args:
        path: Where the sheet shall be written. A former sheet may be there and is replaced.

    Raises:
        PathError: Its suffix names no kind of sheet, there is no such folder, or another file
            has that name: a picture, say, which must not be lost.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PathError(
            f"{path} is no name for a contact sheet: it must end in .png or .html",
            hint="Name it, for example, sheet.html.",
        )
    if path.is_dir():
        raise PathError(f"{path} is a folder", hint="Name a file in it.")
    if not path.parent.is_dir():
        raise PathError(f"the folder {path.parent} does not exist", hint="Make it first.")
    if path.exists() and not _is_sheet(path):
        raise PathError(
            f"{path} exists already and is no contact sheet", hint="Choose another name."
        )


def save_sheet(rows: Sequence[SheetRow], path: Path, *, title: str) -> int:
    """Write a contact sheet of the kind that its name's suffix tells.

    Args:
        rows: From top to bottom.
        path: Where to write; one of `SUFFIXES`.
        title: Stands above everything.

    Returns:
        How many tiles are on it; of very many, a drawn sheet holds the first only.

    Raises:
        PathError: As `check_sheet`, or the file cannot be written.
    """
    check_sheet(path)
    try:
        target = path.resolve()  # through a link, which stays one
        # A name that nobody has: beside it may lie anything.
        whole = target.with_name(f".{secrets.token_hex(8)}{path.suffix}")
        try:
            if path.suffix.lower() in _HTML:
                from siglip_search.render.html_sheet import save_html_sheet

                tiles = save_html_sheet(rows, whole, title=title)
            else:
                from siglip_search.render.contact_sheet import save_contact_sheet

                tiles = save_contact_sheet(rows, whole, title=title)
            check_sheet(path)  # once more: it has taken its time
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)
        return tiles
    except OSError as error:
        raise PathError(
            f"the contact sheet {path} cannot be written: {error.strerror or error}",
            hint="Name another file, or make room.",
        ) from error


def _is_sheet(path: Path) -> bool:
    from siglip_search.render.contact_sheet import GENERATOR

    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(_LOOKED_AT_BYTES)
    except OSError:
        return False
