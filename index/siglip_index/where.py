"""Conditions on photos as SQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.records import Root, Where

_ISO_TIME = re.compile(
    r"(?P<local>\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?"
)
# Wall-clock time to the second: "2021-05-04T13:14:15" of "2021-05-04T13:14:15.25+02:00".
_TAKEN_LOCAL = "replace(substr(photo.taken_at, 1, 19), ' ', 'T')"


def compile_where(where: Where, roots: Sequence[Root]) -> tuple[str, list[bytes | str | int]]:
    """Return an SQL condition on the table photo, and its parameters.

    Args:
        where: The conditions; all must hold. None at all gives a condition that always does.
        roots: The library's roots, to which `where.under` is resolved.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    conditions: list[str] = []
    parameters: list[bytes | str | int] = []
    if where.under:
        places, values = _places(where.under, roots)
        # The photo ids are looked up from the files' side: a folder is often a small part.
        conditions.append(
            "photo.id IN (SELECT file.photo_id FROM file"  # noqa: S608 - marks for all values
            f" WHERE file.vanished_at IS NULL AND ({' OR '.join(places) or '0'}))"
        )
        parameters += values
    if where.formats:
        marks = ", ".join("?" * len(where.formats))
        conditions.append(f"photo.format COLLATE NOCASE IN ({marks})")
        parameters += where.formats
    if where.taken_from is not None:
        conditions.append(f"{_TAKEN_LOCAL} >= ?")
        parameters.append(_local_time(where.taken_from))
    if where.taken_before is not None:
        conditions.append(f"{_TAKEN_LOCAL} < ?")
        parameters.append(_local_time(where.taken_before))
    return " AND ".join(conditions) or "1", parameters


def _places(
    folders: Sequence[bytes], roots: Sequence[Root]
) -> tuple[list[str], list[bytes | str | int]]:
    conditions: list[str] = []
    parameters: list[bytes | str | int] = []
    for folder in folders:
        for root in roots:
            below = relative_to(folder, root.path)
            if relative_to(root.path, folder) is not None:
                conditions.append("file.root_id = ?")
                parameters.append(root.id)
            elif below is not None:
                # "0" follows "/" in ASCII, so the range holds all that begins with below + "/".
                conditions.append(
                    "(file.root_id = ? AND (file.path = ? OR (file.path > ? AND file.path < ?)))"
                )
                parameters += [root.id, below, below + b"/", below + b"0"]
    return conditions, parameters


def _local_time(time: str) -> str:
    match = _ISO_TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"{time!r} is no ISO 8601 date or time")
    return match["local"].replace(" ", "T")
