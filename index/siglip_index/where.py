"""Conditions on photos as SQL: each selects ids, and they are brought together elsewhere."""

# ruff: noqa: S608 - the statements are put together from constants and marks for values

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from siglip_index.catalogue_places import roots
from siglip_index.locations import relative_to, storable_text
from siglip_index.moments import Parameter, ids_by_moment
from siglip_index.stat_numbers import storable_nanoseconds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from siglip_index.records import Root, Where

Statement = tuple[str, list[Parameter]]

HAS_POSITION = "photo.latitude IS NOT NULL AND photo.longitude IS NOT NULL"

_ORIENTATIONS = {
    "portrait": "photo.height > photo.width",
    "landscape": "photo.width > photo.height",
    "square": "photo.width = photo.height",
}
# SQLite refuses patterns of more than 50,000 bytes, and each character may be escaped.
_MAX_PATTERN_CHARACTERS = 1000
_ACTIVE_SPACE = "(SELECT value FROM meta WHERE key = 'active_space')"


def id_statements(where: Where, connection: sqlite3.Connection) -> Iterator[Statement]:
    """Yield what selects ids (as `id`, in any order, perhaps repeated), with its parameters.

    Each is of one condition that an index answers; `near`, `keywords` and ids are not among them.
    Vanished photos may be selected too.

    Args:
        where: The conditions.
        connection: Of the library, whose roots and names are looked up.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    for label in where.tags:
        yield _tagged(connection, label)
    if where.under:
        yield _under(where.under, roots(connection))
    if where.changed_from is not None or where.changed_before is not None:
        yield _changed(where.changed_from, where.changed_before)
    if where.taken_from is not None or where.taken_before is not None:
        yield ids_by_moment(where.taken_from, where.taken_before)
    for column, parts in (("camera", where.cameras), ("lens", where.lenses)):
        if parts:
            yield _named(connection, column, parts)
    if where.min_rating is not None:
        yield (
            "SELECT photo.id AS id FROM photo WHERE photo.rating IS NOT NULL AND photo.rating >= ?",
            [where.min_rating],
        )
    if where.has_gps:
        yield f"SELECT photo.id AS id FROM photo WHERE {HAS_POSITION}", []


def row_condition(where: Where) -> Statement | None:
    """Return the condition on a photo's row for which there is no index, None without any."""
    conditions: list[str] = []
    parameters: list[Parameter] = []
    if where.formats:
        marks = ", ".join("?" * len(where.formats))
        conditions.append(f"photo.format COLLATE NOCASE IN ({marks})")
        parameters += map(storable_text, where.formats)
    if where.orientation is not None:
        conditions.append(_ORIENTATIONS[where.orientation])
    for expression, least in (
        ("photo.width", where.min_width),
        ("photo.height", where.min_height),
        ("photo.width * photo.height", where.min_pixels),
    ):
        if least is not None:
            conditions.append(f"{expression} >= ?")
            parameters.append(least)
    return (" AND ".join(conditions), parameters) if conditions else None


def keyword_statement(word: str) -> Statement:
    """Return what selects ids (one text) by `keywords` of all photos that may have a keyword.

    LIKE knows the case of ASCII only, so that others have to be looked at afterwards.
    """
    is_not_ascii = "length(photo.keywords) <> length(CAST(photo.keywords AS BLOB))"
    folded = word.casefold()
    parameters: list[Parameter] = []
    condition = is_not_ascii if len(folded) <= _MAX_PATTERN_CHARACTERS else "1"
    if folded.isascii() and len(folded) <= _MAX_PATTERN_CHARACTERS:
        pattern = json.dumps(folded).replace("^", "^^").replace("%", "^%").replace("_", "^_")
        condition = f"(photo.keywords LIKE ? ESCAPE '^' OR {is_not_ascii})"
        parameters.append(f"%{pattern}%")
    return (
        "SELECT photo.keywords, group_concat(photo.id) FROM photo"
        f" WHERE photo.keywords <> '[]' AND {condition} GROUP BY photo.keywords",
        parameters,
    )


def _under(folders: Sequence[bytes], known: Sequence[Root]) -> Statement:
    conditions: list[str] = []
    parameters: list[Parameter] = []
    for folder in folders:
        for root in known:
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
    return (
        "SELECT file.photo_id AS id FROM file WHERE file.vanished_at IS NULL"
        f" AND file.photo_id IS NOT NULL AND ({' OR '.join(conditions) or '0'})",
        parameters,
    )


def _changed(start_s: float | None, end_s: float | None) -> Statement:
    conditions: list[str] = []
    parameters: list[Parameter] = []
    for comparison, limit_s in ((">=", start_s), ("<", end_s)):
        if limit_s is not None:
            conditions.append(f" AND file.mtime_ns {comparison} ?")
            parameters.append(storable_nanoseconds(limit_s))
    return (
        "SELECT file.photo_id AS id FROM file WHERE file.vanished_at IS NULL"
        f" AND file.photo_id IS NOT NULL{''.join(conditions)}",
        parameters,
    )


def _named(connection: sqlite3.Connection, column: str, parts: Sequence[str]) -> Statement:
    # SQLite folds the case of ASCII only; of names there are few, and an index lists them.
    folded = [part.casefold() for part in parts]
    names = _names(
        connection,
        "photo",
        column,
        "1",
        lambda name: any(part in name.casefold() for part in folded),
    )
    return (
        f"SELECT photo.id AS id FROM photo WHERE photo.{column} IS NOT NULL"
        f" AND photo.{column} IN (SELECT value FROM json_each(?))",
        [json.dumps(names)],
    )


def _tagged(connection: sqlite3.Connection, label: str) -> Statement:
    folded = label.casefold()
    labels = _names(
        connection,
        "tag",
        "label",
        f"space_id = {_ACTIVE_SPACE}",
        lambda name: name.casefold() == folded,
    )
    return (
        f"SELECT tag.photo_id AS id FROM tag WHERE tag.space_id = {_ACTIVE_SPACE}"
        " AND tag.label IN (SELECT value FROM json_each(?))",
        [json.dumps(labels)],
    )


def _names(
    connection: sqlite3.Connection,
    table: str,
    column: str,
    condition: str,
    is_wanted: Callable[[str], bool],
) -> list[str]:
    """Return the different texts of a column that are wanted, from one to the next in its index."""
    first = f"SELECT min({column}) FROM {table} WHERE {condition} AND {column} IS NOT NULL"
    rows = connection.execute(
        f"WITH RECURSIVE names (name) AS ({first} UNION ALL"
        f" SELECT ({first} AND {column} > name) FROM names WHERE name IS NOT NULL)"
        " SELECT name FROM names WHERE name IS NOT NULL"
    )
    return [name for (name,) in rows if is_wanted(name)]
