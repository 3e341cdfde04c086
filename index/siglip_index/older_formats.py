"""Reading a library of an older format without changing it, as a read-only medium demands."""

# ruff: noqa: S608 - the statements are put together from constants only

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

# Views of this connection alone, which hide the tables of the same names. The columns are named
# one by one: when a writer brings the library up to date meanwhile, the views stay as they are.
_OLDEST_MTIME = (
    "(SELECT min(file.mtime_ns) FROM main.file WHERE file.photo_id = photo.id"
    " AND file.vanished_at IS NULL) AS oldest_mtime_ns"
)
_SINCE_FORMAT_2 = (
    "CREATE TEMP VIEW root AS SELECT id, path, display, device, NULL AS volume,"
    " NULL AS volume_path, '[]' AS exclude FROM main.root",
    "CREATE TEMP VIEW companion AS SELECT 0 AS id, 0 AS file_id, x'' AS path, '' AS display,"
    " '' AS kind, 0 AS size, 0 AS mtime_ns, 0 AS inode WHERE 0",
    "CREATE TEMP VIEW online_only AS SELECT 0 AS id, 0 AS root_id, x'' AS path WHERE 0",
)
_SINCE_FORMAT_3 = (
    "CREATE TEMP VIEW tagged AS SELECT 0 AS id, 0 AS photo_id, 0 AS space_id, '' AS vocabulary"
    " WHERE 0",
    "CREATE TEMP VIEW tag AS SELECT 0 AS id, 0 AS photo_id, 0 AS space_id, '' AS label,"
    " 0.0 AS probability WHERE 0",
    "CREATE TEMP VIEW record AS SELECT '' AS kind, '' AS key, '' AS value WHERE 0",
)
_VIEWS = {
    1: (
        *_SINCE_FORMAT_2,
        *_SINCE_FORMAT_3,
        "CREATE TEMP VIEW photo AS SELECT id, content_hash, size, width, height, format, taken_at,"
        " camera, latitude, longitude, vanished_at,"
        " CASE WHEN taken_at IS NOT NULL THEN 'exif' END AS taken_source, NULL AS lens,"
        " NULL AS exposure_seconds, NULL AS f_number, NULL AS iso, NULL AS focal_length_mm,"
        " NULL AS altitude_m, NULL AS rating, NULL AS title, '[]' AS keywords,"
        f" 0 AS metadata_version, {_OLDEST_MTIME} FROM main.photo",
    ),
    2: (
        *_SINCE_FORMAT_3,
        "CREATE TEMP VIEW photo AS SELECT id, content_hash, size, width, height, format, taken_at,"
        " camera, latitude, longitude, vanished_at, taken_source, lens, exposure_seconds,"
        " f_number, iso, focal_length_mm, altitude_m, rating, title, keywords, metadata_version,"
        f" {_OLDEST_MTIME} FROM main.photo",
    ),
}


def show_older_format(connection: sqlite3.Connection) -> int | None:
    """Let this connection see a library of an older format as one of the newest.

    Args:
        connection: For reading, in any journal mode; nothing is written to the database.

    Returns:
        The older format; None where it is the newest.
    """
    version = format_of(connection)
    for statement in _VIEWS.get(version, ()):
        connection.execute(statement)
    return version if version in _VIEWS else None


def format_of(connection: sqlite3.Connection) -> int:
    """Return the format that the library has now."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
