"""Reading the catalogue: one function for each question, each on a connection that is given.

Only the standard library's sqlite3 is used here, so that a query starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from siglip_index import half_vectors
from siglip_index.catalogue_places import count_online_only, present_paths
from siglip_index.errors import CorruptLibraryError, UnknownSpaceError
from siglip_index.photo_columns import FACT_COLUMNS, facts_of
from siglip_index.records import Photo, Space, StoreCounts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

Item = TypeVar("Item")

# Below SQLite's historical limit of 999 parameters.
_CHUNK = 900


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """A space as the database has it.

    Attributes:
        id: Row number.
        space: The space.
        log_start: Changes of this and earlier generations are no longer in the log.
    """

    id: int
    space: Space
    log_start: int


def generation(connection: sqlite3.Connection) -> int:
    """Return the number of the last transaction that changed anything."""
    (value,) = connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
    return int(value)


def counts(connection: sqlite3.Connection) -> StoreCounts:
    """Return how much is in the library."""
    (pictures, vanished) = connection.execute(
        "SELECT count(*) FILTER (WHERE vanished_at IS NULL), count(vanished_at) FROM photo"
    ).fetchone()
    (files, failed) = connection.execute(
        "SELECT count(photo_id), count(failure) FROM file WHERE vanished_at IS NULL"
    ).fetchone()
    return StoreCounts(
        pictures=pictures,
        files=files,
        failed=failed,
        vanished=vanished,
        online_only=count_online_only(connection),
    )


def space_rows(connection: sqlite3.Connection) -> list[SpaceRow]:
    """Return all spaces, oldest first."""
    rows = connection.execute("SELECT id, key, dimension, model, log_start FROM space ORDER BY id")
    return [
        SpaceRow(space_id, Space(key, dimension, model), log_start)
        for space_id, key, dimension, model, log_start in rows
    ]


def space_row(connection: sqlite3.Connection, key: str) -> SpaceRow:
    """Return the space of this key.

    Raises:
        UnknownSpaceError: There is none.
    """
    for row in space_rows(connection):
        if row.space.key == key:
            return row
    raise UnknownSpaceError(
        f"the library has no vectors of the model space {key!r}",
        hint="Index with this model first, or search with the library's own.",
    )


def active_space(connection: sqlite3.Connection) -> Space | None:
    """Return the space that searches use, None in an empty library."""
    return _space_called(connection, "active_space")


def coming_space(connection: sqlite3.Connection) -> Space | None:
    """Return the space that is being filled to become the active one, None if none is."""
    return _space_called(connection, "coming_space")


def _space_called(connection: sqlite3.Connection, part: str) -> Space | None:
    row = connection.execute(
        "SELECT space.key, space.dimension, space.model FROM space"
        " JOIN meta ON meta.key = ? AND meta.value = space.id",
        [part],
    ).fetchone()
    return None if row is None else Space(*row)


def vectors_by_space(connection: sqlite3.Connection) -> dict[int, int]:
    """Return how many vectors each space has, by the space's row number."""
    return dict(connection.execute("SELECT space_id, count(*) FROM vector GROUP BY space_id"))


def known_sizes(connection: sqlite3.Connection) -> set[int]:
    """Return the sizes in bytes of all known contents."""
    rows = connection.execute("SELECT DISTINCT size FROM photo WHERE size IS NOT NULL")
    return {size for (size,) in rows}


def photos_by_hash(
    connection: sqlite3.Connection, space_key: str, content_hashes: Sequence[bytes]
) -> dict[bytes, tuple[int, bool]]:
    """Return photo id, and whether it has a vector in the space, of each known hash."""
    found: dict[bytes, tuple[int, bool]] = {}
    for chunk in chunks(content_hashes):
        rows = connection.execute(
            "SELECT photo.content_hash, photo.id, EXISTS (SELECT 1 FROM vector JOIN space"  # noqa: S608
            " ON space.id = vector.space_id WHERE vector.photo_id = photo.id AND space.key = ?)"
            f" FROM photo WHERE photo.content_hash IN ({marks(chunk)})",
            [space_key, *chunk],
        )
        found.update((digest, (photo_id, bool(known))) for digest, photo_id, known in rows)
    return found


def photos_in_space(
    connection: sqlite3.Connection, space_key: str, among: Collection[int] | None = None
) -> set[int]:
    """Return the ids of all photos, or of those among some, that have a vector in this space."""
    return _among(
        connection,
        "SELECT vector.photo_id FROM vector JOIN space ON space.id = vector.space_id"
        " WHERE space.key = ?",
        space_key,
        "vector.photo_id",
        among,
    )


def _among(
    connection: sqlite3.Connection,
    selection: str,
    parameter: str | int,
    column: str,
    among: Collection[int] | None,
) -> set[int]:
    """Return the ids that a statement with one parameter selects, or those of them among some."""
    if among is None:
        return {photo_id for (photo_id,) in connection.execute(selection, [parameter])}
    found: set[int] = set()
    for chunk in chunks(list(among)):
        rows = connection.execute(
            f"{selection} AND {column} IN ({marks(chunk)})", [parameter, *chunk]
        )
        found.update(photo_id for (photo_id,) in rows)
    return found


def photos(connection: sqlite3.Connection, photo_ids: Sequence[int]) -> list[Photo]:
    """Return these photos in the order asked for; ids without a present file are left out."""
    found: dict[int, Photo] = {}
    for chunk in chunks(list(dict.fromkeys(int(photo_id) for photo_id in photo_ids))):
        present = present_paths(connection, chunk)
        rows = connection.execute(
            f"SELECT id, content_hash, {', '.join(FACT_COLUMNS)}"  # noqa: S608 - constants only
            f" FROM photo WHERE id IN ({marks(chunk)})",
            chunk,
        )
        for photo_id, content_hash, *values in rows:
            if photo_id in present:
                found[photo_id] = Photo(
                    photo_id, content_hash, facts_of(values), *present[photo_id]
                )
    return [found[int(photo_id)] for photo_id in photo_ids if photo_id in found]


def photos_with_older_metadata(
    connection: sqlite3.Connection, version: int, among: Collection[int] | None = None
) -> set[int]:
    """Return the ids of visible photos whose metadata were read in an older way than this."""
    return _among(
        connection,
        "SELECT id FROM photo WHERE vanished_at IS NULL AND metadata_version < ?",
        version,
        "id",
        among,
    )


def vectors(
    connection: sqlite3.Connection, space_key: str, photo_ids: Sequence[int]
) -> NDArray[np.float32]:
    """Return vectors of shape (len(photo_ids), dimension).

    Raises:
        UnknownSpaceError: There is no such space.
        LookupError: One of the photos has no vector in it.
        CorruptLibraryError: A vector is damaged.
    """
    row = space_row(connection, space_key)
    blobs: dict[int, bytes] = {}
    for chunk in chunks([int(photo_id) for photo_id in photo_ids]):
        blobs.update(
            connection.execute(
                "SELECT photo_id, embedding FROM vector"  # noqa: S608
                f" WHERE photo_id IN ({marks(chunk)}) AND space_id = ?",
                [*chunk, row.id],
            )
        )
    missing = [photo_id for photo_id in photo_ids if photo_id not in blobs]
    if missing:
        raise LookupError(f"photo {missing[0]} has no vector in the space {space_key!r}")
    return _decoded([blobs[photo_id] for photo_id in photo_ids], row.space.dimension)


def visible_vectors_after(
    connection: sqlite3.Connection, space_key: str, photo_id: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ids and vectors of the next visible photos after this id, by id."""
    row = space_row(connection, space_key)
    rows = connection.execute(
        "SELECT vector.photo_id, vector.embedding FROM vector"
        " JOIN photo ON photo.id = vector.photo_id"
        " WHERE vector.photo_id > ? AND vector.space_id = ? AND photo.vanished_at IS NULL"
        " ORDER BY vector.photo_id LIMIT ?",
        [photo_id, row.id, limit],
    ).fetchall()
    ids = np.fromiter((found for found, _ in rows), dtype=np.int64, count=len(rows))
    return ids, _decoded([blob for _, blob in rows], row.space.dimension)


def usable_vectors(
    connection: sqlite3.Connection,
    row: SpaceRow,
    photo_ids: Iterable[int] | None = None,
    batch_size: int = 4096,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield ids and vectors of visible photos for an index; damaged ones are passed over.

    Args:
        connection: Inside a read transaction.
        row: The space.
        photo_ids: Only these; None for all.
        batch_size: How many at most in each step.
    """
    selection = (
        "SELECT vector.photo_id, vector.embedding FROM vector"
        " JOIN photo ON photo.id = vector.photo_id"
        " WHERE vector.space_id = ? AND photo.vanished_at IS NULL"
        " AND typeof(vector.embedding) = 'blob' AND length(vector.embedding) = ?"
    )
    constants = [row.id, row.space.dimension * half_vectors.BYTES_PER_VALUE]
    if photo_ids is None:
        cursors = iter([connection.execute(selection, constants)])
    else:
        cursors = (
            connection.execute(
                f"{selection} AND vector.photo_id IN ({marks(chunk)})", [*constants, *chunk]
            )
            for chunk in chunks(list(photo_ids))
        )
    for cursor in cursors:
        while rows := cursor.fetchmany(batch_size):
            ids = np.fromiter((photo_id for photo_id, _ in rows), dtype=np.int64, count=len(rows))
            batch = half_vectors.decode([blob for _, blob in rows], row.space.dimension)
            valid = half_vectors.are_valid(batch)
            yield (ids, batch) if valid.all() else (ids[valid], batch[valid])


def changes_since(
    connection: sqlite3.Connection, space_id: int, since_generation: int
) -> dict[int, str]:
    """Return the last kind of change ("add" or "remove") of each photo after a generation."""
    rows = connection.execute(
        "SELECT photo_id, kind FROM change WHERE space_id = ? AND generation > ? ORDER BY id",
        [space_id, since_generation],
    )
    return dict(rows.fetchall())


def count_changes_since(
    connection: sqlite3.Connection, space_id: int, since_generation: int
) -> int:
    """Return how many rows of the change log are newer than a generation."""
    (changes,) = connection.execute(
        "SELECT count(*) FROM change WHERE space_id = ? AND generation > ?",
        [space_id, since_generation],
    ).fetchone()
    return int(changes)


def count_visible_in_space(connection: sqlite3.Connection, space_id: int) -> int:
    """Return how many visible photos have a vector in the space."""
    (number,) = connection.execute(
        "SELECT count(*) FROM vector JOIN photo ON photo.id = vector.photo_id"
        " WHERE vector.space_id = ? AND photo.vanished_at IS NULL",
        [space_id],
    ).fetchone()
    return int(number)


def knows_snapshot(
    connection: sqlite3.Connection, space_id: int, snapshot_generation: int, sha256: str
) -> bool:
    """Tell whether this database's own history produced the snapshot."""
    row = connection.execute(
        "SELECT 1 FROM snapshot WHERE space_id = ? AND generation = ? AND sha256 = ?",
        [space_id, snapshot_generation, sha256],
    ).fetchone()
    return row is not None


def chunks(items: Sequence[Item], size: int = _CHUNK) -> Iterator[list[Item]]:
    """Yield the items in lists that fit into the parameters of one statement."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def marks(values: Sequence[object]) -> str:
    """Return as many question marks as there are values."""
    return ", ".join("?" * len(values))


def _decoded(blobs: Sequence[bytes], dimension: int) -> NDArray[np.float32]:
    try:
        vectors = half_vectors.decode(blobs, dimension)
        if not half_vectors.are_valid(vectors).all():
            raise ValueError("it is not of unit length")
        return vectors
    except ValueError as error:
        raise CorruptLibraryError(
            f"a vector in the library is damaged: {error}",
            hint="Run verify with --repair, then index again.",
        ) from error
