"""Tags of photos: labels that their vectors are near to."""

# ruff: noqa: S608 - the statements are put together from constants and marks for values

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.catalogue_read import chunks, marks, space_row
from siglip_index.locations import storable_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence


def put_tags(
    connection: sqlite3.Connection,
    space_key: str,
    vocabulary: str,
    rows: Iterable[tuple[int, Sequence[tuple[str, float]]]],
) -> None:
    """See `StoreWriter.put_tags`; vectors of this transaction are written already."""
    space_id = space_row(connection, space_key).id
    for photo_id, tags in rows:
        # Deletes the former tags as well.
        connection.execute(
            "DELETE FROM tagged WHERE photo_id = ? AND space_id = ?", [photo_id, space_id]
        )
        marked = connection.execute(
            "INSERT INTO tagged (photo_id, space_id, vocabulary)"
            " SELECT photo_id, space_id, ? FROM vector WHERE photo_id = ? AND space_id = ?",
            [storable_text(vocabulary), photo_id, space_id],
        )
        if marked.rowcount:
            connection.executemany(
                "INSERT INTO tag (photo_id, space_id, label, probability) VALUES (?, ?, ?, ?)",
                [
                    (photo_id, space_id, storable_text(label), float(probability))
                    for label, probability in tags
                ],
            )


def clear_tags(connection: sqlite3.Connection, space_key: str) -> None:
    """See `StoreWriter.clear_tags`."""
    space_id = space_row(connection, space_key).id
    for table in ("tag", "tagged"):
        connection.execute(f"DELETE FROM {table} WHERE space_id = ?", [space_id])


def tags(
    connection: sqlite3.Connection, space_key: str, photo_ids: Collection[int]
) -> dict[int, tuple[tuple[str, float], ...]]:
    """See `Store.tags`."""
    space_id = space_row(connection, space_key).id
    found: dict[int, list[tuple[str, float]]] = {}
    for chunk in chunks([int(photo_id) for photo_id in photo_ids]):
        rows = connection.execute(
            "SELECT photo_id, label, probability FROM tag"
            f" WHERE photo_id IN ({marks(chunk)}) AND space_id = ?"
            " ORDER BY photo_id, probability DESC, label",
            [*chunk, space_id],
        )
        for photo_id, label, probability in rows:
            found.setdefault(photo_id, []).append((label, probability))
    return {photo_id: tuple(labels) for photo_id, labels in found.items()}


def tag_counts(connection: sqlite3.Connection, space_key: str) -> dict[str, int]:
    """See `Store.tag_counts`."""
    space_id = space_row(connection, space_key).id
    # An index alone counts all; of vanished photos there are few.
    statement = "SELECT label, count(*) FROM tag WHERE space_id = ?"
    counts = dict(connection.execute(f"{statement} GROUP BY label", [space_id]).fetchall())
    for label, number in connection.execute(
        f"{statement} AND photo_id IN (SELECT id FROM photo WHERE vanished_at IS NOT NULL)"
        " GROUP BY label",
        [space_id],
    ):
        counts[label] -= number
    shown = [(label, number) for label, number in counts.items() if number]
    return dict(sorted(shown, key=lambda entry: (-entry[1], entry[0])))


def photos_untagged(
    connection: sqlite3.Connection,
    space_key: str,
    vocabulary: str,
    among: Collection[int] | None = None,
) -> set[int]:
    """See `Store.photos_untagged`."""
    statement = (
        "SELECT vector.photo_id FROM vector JOIN photo ON photo.id = vector.photo_id"
        " LEFT JOIN tagged ON tagged.photo_id = vector.photo_id"
        " AND tagged.space_id = vector.space_id"
        " WHERE vector.space_id = ? AND photo.vanished_at IS NULL"
        " AND tagged.vocabulary IS NOT ?"
    )
    constants = [space_row(connection, space_key).id, storable_text(vocabulary)]
    if among is None:
        return {photo_id for (photo_id,) in connection.execute(statement, constants)}
    found: set[int] = set()
    for chunk in chunks([int(photo_id) for photo_id in among]):
        rows = connection.execute(
            f"{statement} AND vector.photo_id IN ({marks(chunk)})", [*constants, *chunk]
        )
        found.update(photo_id for (photo_id,) in rows)
    return found
