"""What the database remembers of its snapshots: which it made, and which changes they contain."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def record_snapshot(
    database: Database, space_id: int, snapshot_generation: int, sha256: str
) -> None:
    """Remember that a snapshot of this checksum was made from this database."""
    with database.atomic():
        database.conn.execute(
            "INSERT OR REPLACE INTO snapshot (space_id, generation, sha256) VALUES (?, ?, ?)",
            [space_id, snapshot_generation, sha256],
        )


def trim_to_snapshot(
    database: Database, space_id: int, snapshot_generation: int, sha256: str
) -> None:
    """Forget the space's older snapshots and the changes that this one contains."""
    with database.atomic():
        connection = database.conn
        connection.execute(
            "DELETE FROM snapshot WHERE space_id = ? AND sha256 <> ?", [space_id, sha256]
        )
        connection.execute(
            "DELETE FROM change WHERE space_id = ? AND generation <= ?",
            [space_id, snapshot_generation],
        )
        connection.execute(
            "UPDATE space SET log_start = ? WHERE id = ?", [snapshot_generation, space_id]
        )
