"""The database's schema, and the steps that bring an older one up to date."""

from __future__ import annotations

import logging
import math
import sqlite3
from typing import TYPE_CHECKING

from sqlite_utils import Database, Migrations

from siglip_index.backup import copy_before_upgrade
from siglip_index.database import (
    APPLICATION_ID,
    FORMAT_VERSION,
    as_store_error,
    connect_for_writing,
)
from siglip_index.errors import DiskFullError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

migrations = Migrations("siglip_index")

# Columns without a type keep what they are given: numbers from stat calls can exceed 64 signed
# bits (inodes on Windows, times after 2262) and are then kept as decimal text.
# No table is WITHOUT ROWID: integrity_check of SQLite 3.40 finds NULLs there that are none.
_FIRST_SCHEMA = (
    """CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value
    )""",
    """CREATE TABLE space (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        dimension INTEGER NOT NULL CHECK (dimension > 0),
        model TEXT NOT NULL,
        -- Changes of this and earlier generations are no longer in the log.
        log_start INTEGER NOT NULL DEFAULT 0
    )""",
    # AUTOINCREMENT: the id of what was deleted never comes to mean something else.
    """CREATE TABLE root (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        display TEXT NOT NULL,
        device
    )""",
    """CREATE TABLE photo (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content_hash BLOB NOT NULL UNIQUE,
        size INTEGER,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        format TEXT NOT NULL,
        taken_at TEXT,
        camera TEXT,
        latitude REAL,
        longitude REAL,
        -- When the last present file went (epoch seconds); NULL while the photo is visible.
        vanished_at REAL
    )""",
    """CREATE TABLE file (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        root_id INTEGER NOT NULL REFERENCES root (id),
        path BLOB NOT NULL,
        display TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns NOT NULL,
        inode NOT NULL,
        device,
        photo_id INTEGER REFERENCES photo (id),
        failure TEXT,
        -- When it was found missing (epoch seconds); NULL while it is present.
        vanished_at REAL,
        UNIQUE (root_id, path),
        CHECK (photo_id IS NULL OR failure IS NULL)
    )""",
    "CREATE INDEX file_by_photo ON file (photo_id)",
    """CREATE TABLE vector (
        id INTEGER PRIMARY KEY,
        photo_id INTEGER NOT NULL REFERENCES photo (id),
        space_id INTEGER NOT NULL REFERENCES space (id),
        embedding BLOB NOT NULL,  -- little-endian IEEE half precision
        precision TEXT NOT NULL,
        device TEXT NOT NULL,
        UNIQUE (photo_id, space_id)
    )""",
    """CREATE TABLE change (
        id INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,
        space_id INTEGER NOT NULL,
        photo_id INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('add', 'remove'))
    )""",
    "CREATE INDEX change_by_space ON change (space_id, generation)",
    # The snapshots that this database wrote: after a restore from a backup the files beside it
    # may be those of another history, whatever their generation.
    """CREATE TABLE snapshot (
        id INTEGER PRIMARY KEY,
        space_id INTEGER NOT NULL REFERENCES space (id),
        generation INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        UNIQUE (space_id, sha256)
    )""",
    "INSERT INTO meta (key, value) VALUES ('generation', 0)",
)


_FILES_AS_THEY_ARE = (
    "ALTER TABLE root ADD COLUMN volume TEXT",
    "ALTER TABLE root ADD COLUMN volume_path BLOB",
    "ALTER TABLE root ADD COLUMN exclude TEXT NOT NULL DEFAULT '[]'",  # JSON, an array of patterns
    "ALTER TABLE photo ADD COLUMN taken_source TEXT",
    "ALTER TABLE photo ADD COLUMN lens TEXT",
    "ALTER TABLE photo ADD COLUMN exposure_seconds REAL",
    "ALTER TABLE photo ADD COLUMN f_number REAL",
    "ALTER TABLE photo ADD COLUMN iso INTEGER",
    "ALTER TABLE photo ADD COLUMN focal_length_mm REAL",
    "ALTER TABLE photo ADD COLUMN altitude_m REAL",
    "ALTER TABLE photo ADD COLUMN rating INTEGER",
    "ALTER TABLE photo ADD COLUMN title TEXT",
    "ALTER TABLE photo ADD COLUMN keywords TEXT NOT NULL DEFAULT '[]'",  # JSON, an array of words
    "ALTER TABLE photo ADD COLUMN metadata_version INTEGER NOT NULL DEFAULT 0",
    # Format 1 read the times that cameras write into EXIF and no others.
    "UPDATE photo SET taken_source = 'exif' WHERE taken_at IS NOT NULL",
    """CREATE TABLE companion (
        id INTEGER PRIMARY KEY,
        file_id INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        display TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('raw', 'live-video', 'sidecar')),
        size INTEGER NOT NULL,
        mtime_ns NOT NULL,
        inode NOT NULL,
        UNIQUE (file_id, path)
    )""",
    # Placeholders of cloud folders: paths whose content nobody has looked at.
    """CREATE TABLE online_only (
        id INTEGER PRIMARY KEY,
        root_id INTEGER NOT NULL REFERENCES root (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        UNIQUE (root_id, path)
    )""",
)


# What filters ask for, and what is kept beside the photos.
_TAGS_RECORDS_AND_FILTERS = (
    # A photo whose vector was compared with a vocabulary; its tags are those of that one.
    """CREATE TABLE tagged (
        id INTEGER PRIMARY KEY,
        photo_id INTEGER NOT NULL,
        space_id INTEGER NOT NULL,
        vocabulary TEXT NOT NULL,
        UNIQUE (photo_id, space_id),
        -- Without the vector there is nothing that could have been compared.
        FOREIGN KEY (photo_id, space_id) REFERENCES vector (photo_id, space_id) ON DELETE CASCADE
    )""",
    """CREATE TABLE tag (
        id INTEGER PRIMARY KEY,
        photo_id INTEGER NOT NULL,
        space_id INTEGER NOT NULL,
        label TEXT NOT NULL,
        probability REAL NOT NULL CHECK (probability BETWEEN 0 AND 1),
        UNIQUE (space_id, label, photo_id),
        FOREIGN KEY (photo_id, space_id) REFERENCES tagged (photo_id, space_id) ON DELETE CASCADE
    )""",
    "CREATE INDEX tag_by_photo ON tag (photo_id, space_id)",
    """CREATE TABLE record (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,  -- JSON
        PRIMARY KEY (kind, key)
    )""",
    # The least mtime of the present files: the time of a picture that states none. NULL without.
    "ALTER TABLE photo ADD COLUMN oldest_mtime_ns",
    "DROP INDEX file_by_photo",
    "CREATE INDEX file_by_photo ON file (photo_id, vanished_at, mtime_ns)",
    "UPDATE photo SET oldest_mtime_ns = (SELECT min(file.mtime_ns) FROM file"
    " WHERE file.photo_id = photo.id AND file.vanished_at IS NULL)",
    # Each of these answers its condition without a look at the rows.
    "CREATE INDEX file_by_change ON file (vanished_at, mtime_ns, photo_id)",
    "CREATE INDEX photo_by_moment ON photo (taken_at, oldest_mtime_ns)",
    "CREATE INDEX photo_vanished ON photo (vanished_at) WHERE vanished_at IS NOT NULL",
    "CREATE INDEX photo_by_camera ON photo (camera) WHERE camera IS NOT NULL",
    "CREATE INDEX photo_by_lens ON photo (lens) WHERE lens IS NOT NULL",
    "CREATE INDEX photo_by_position ON photo (latitude, longitude)"
    " WHERE latitude IS NOT NULL AND longitude IS NOT NULL",
    "CREATE INDEX photo_by_rating ON photo (rating) WHERE rating IS NOT NULL",
    "CREATE INDEX photo_by_keywords ON photo (keywords) WHERE keywords <> '[]'",
)


@migrations()
def create_first_schema(database: Database) -> None:
    """Lay out an empty library of format 1."""
    for statement in _FIRST_SCHEMA:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute("PRAGMA user_version = 1")


@migrations()
def add_metadata_companions_and_volumes(database: Database) -> None:
    """Format 2: more metadata, files that belong to pictures, volumes, cloud placeholders."""
    for statement in _FILES_AS_THEY_ARE:
        database.execute(statement)
    database.execute("PRAGMA user_version = 2")


@migrations()
def add_tags_records_and_filter_indexes(database: Database) -> None:
    """Format 3: tags of photos, small records of the library, indexes for filters."""
    for statement in _TAGS_RECORDS_AND_FILTERS:
        database.execute(statement)
    database.execute("PRAGMA user_version = 3")


def open_catalogue(path: Path, *, copy_first: bool = True) -> Database:
    """Open the database for writing, created or brought up to date where necessary.

    A library of an older format is copied first (see `siglip_index.backup`). All steps together
    are one transaction: whatever ends it early leaves the library as it was.

    Args:
        path: The database; the caller holds the writer's lock.
        copy_first: False where the database is a copy itself.

    Raises:
        NewerLibraryError: A newer version wrote it.
        CorruptLibraryError: It is another program's database.
        DiskFullError: There is no room to copy an older library, which is untouched.
        sqlite3.Error, OSError: To be explained by the caller.
    """
    connection = connect_for_writing(path)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if copy_first and 0 < version < FORMAT_VERSION:
            _copy_first(path, version)
        database = Database(connection, execute_plugins=False)
        with database.atomic():  # of several steps, all or none
            migrations.apply(database)
    except BaseException:
        connection.close()
        raise
    return database


def _copy_first(path: Path, version: int) -> None:
    try:
        copy = copy_before_upgrade(path, version)
    except (sqlite3.Error, OSError) as error:
        expected = as_store_error(error, path.parent)
        if not isinstance(expected, DiskFullError):
            raise
        mebibytes = max(1, math.ceil(2 * path.stat().st_size / 2**20))
        raise DiskFullError(
            f"there is no room to copy the library {path.parent} before it is brought to format"
            f" {FORMAT_VERSION}",
            hint=f"Free about {mebibytes:,} MiB on its disk and run it again; nothing was"
            " changed, and searching works meanwhile.",
        ) from error
    _log.warning(
        "The library is brought to format %d; the former one is kept in %s", FORMAT_VERSION, copy
    )
