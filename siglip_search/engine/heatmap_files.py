"""Maps of pictures as files of a folder, none of which is ever replaced."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siglip_search.engine.output_file import written_whole
from siglip_search.errors import PathError, UnreadablePictureError
from siglip_search.photos.thumbnails import thumbnail
from siglip_search.render.heatmap import draw_heatmap

if TYPE_CHECKING:
    from siglip_search.engine.patch_maps import PatchMap
    from siglip_search.photos.decode import DecodeLimits

_SIDE_PX: Final = 768
# File systems take 255 bytes, of which a temporary name needs some more.
_LONGEST_NAME_BYTES: Final = 120


def check_heatmap_folder(folder: Path) -> None:
    """Raise now what `save_heatmap` would raise after the search; nothing is made yet.

    Raises:
        PathError: It is a file, or lies in one.
    """
    for above in (folder, *folder.parents):
        if above.is_dir():
            return
        if os.path.lexists(above):
            raise PathError(f"{above} is a file", hint="Name a folder, new or not.")


def save_heatmap(
    folder: Path,
    rank: int,
    path: str,
    patches: PatchMap,
    caption: str,
    limits: DecodeLimits,
) -> Path:
    """Draw the map of a picture into a folder, and return where it is.

    Args:
        folder: It is made if need be; what is in it stays as it is.
        rank: Of the hit; begins the name.
        path: The picture, absolute; it has been decoded before.
        patches: The map.
        caption: Stands below the picture, before the name of the method; what cannot be printed
            becomes a question mark.
        limits: What decoding may cost.

    Raises:
        PathError: The folder cannot be made, or the file not be written.
        UnreadablePictureError: The picture is gone meanwhile.
    """
    try:
        picture = thumbnail(os.fsencode(path), (_SIDE_PX, _SIDE_PX), limits)
    except OSError as error:
        raise UnreadablePictureError(error.strerror or str(error)) from error
    caption = "".join(letter if letter.isprintable() else "?" for letter in caption)
    drawn = draw_heatmap(
        picture,
        patches.differences,
        patches.region,
        (caption, f"by {patches.method}, {patches.model}"),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PathError(
            f"the folder {folder} cannot be made: {error.strerror or error}",
            hint="Name a folder in a place of your own.",
        ) from error
    target = _free_name(folder, f"{rank:03d}-{_plain(Path(path).stem)}")
    with written_whole(target, replace=False) as file:
        drawn.save(file, "PNG")
    return target


def _free_name(folder: Path, stem: str) -> Path:
    for number in count(1):
        target = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        if not os.path.lexists(target):
            return target
    raise AssertionError  # the numbers do not end


def _plain(stem: str) -> str:
    """Return a name that every file system takes, as far as it was one."""
    plain = "".join(letter if letter.isalnum() or letter in "-_ ." else "_" for letter in stem)
    kept = plain.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore")
    return kept.strip(" .") or "picture"
