"""Small things that belong to the library, as JSON by kind and key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


def put_record(connection: sqlite3.Connection, kind: str, key: str, value: str | None) -> None:
    """See `StoreWriter.put_record`."""
    if value is None:
        connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", [kind, key])
        return
    json.loads(value)  # a ValueError, where it is no JSON
    connection.execute(
        "INSERT INTO record (kind, key, value) VALUES (?, ?, ?) ON CONFLICT (kind, key)"
        " DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        [kind, key, value],
    )


def records(connection: sqlite3.Connection, kind: str) -> dict[str, str]:
    """See `Store.records`."""
    rows = connection.execute("SELECT key, value FROM record WHERE kind = ? ORDER BY key", [kind])
    return dict(rows.fetchall())
