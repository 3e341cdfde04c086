"""Reading a library of an older format without changing it, as a read-only medium demands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

# Views of this connection alone, which hide the tables of the same names. The columns are named
# one by one: when a writer brings the library up to date meanwhile, the views stay as they are.
_FORMAT_1_AS_2 = (
    "CREATE TEMP VIEW root AS SELECT id, path, display, device, NULL AS volume,"
    " NULL AS volume_path, '[]' AS exclude FROM main.root",
    "CREATE TEMP VIEW photo AS SELECT id, content_hash, size, width, height, format, taken_at,"
    " camera, latitude, longitude, vanished_at,"
    " CASE WHEN taken_at IS NOT NULL THEN 'exif' END AS taken_source, NULL AS lens,"
    " NULL AS exposure_seconds, NULL AS f_number, NULL AS iso, NULL AS focal_length_mm,"
    " NULL AS altitude_m, NULL AS rating, NULL AS title, '[]' AS keywords,"
    " 0 AS metadata_version FROM main.photo",
    "CREATE TEMP VIEW companion AS SELECT 0 AS id, 0 AS file_id, x'' AS path, '' AS display,"
    " '' AS kind, 0 AS size, 0 AS mtime_ns, 0 AS inode WHERE 0",
    "CREATE TEMP VIEW online_only AS SELECT 0 AS id, 0 AS root_id, x'' AS path WHERE 0",
)


def show_older_format(connection: sqlite3.Connection) -> None:
    """Let this connection see a library of format 1 as one of the newest format.

    Args:
        connection: For reading, in any journal mode; nothing is written to the database.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 1:
        for statement in _FORMAT_1_AS_2:
            connection.execute(statement)
