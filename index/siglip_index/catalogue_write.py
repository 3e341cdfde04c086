"""Changing the catalogue: every write, each inside one transaction."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_index import (
    catalogue_roots,
    catalogue_spaces,
    file_rows,
    half_vectors,
    photo_tags,
    small_records,
)
from siglip_index.catalogue_check import OLDEST_MTIME
from siglip_index.catalogue_read import chunks, generation, marks, space_row
from siglip_index.locations import storable_text
from siglip_index.photo_columns import FACT_COLUMNS, fact_values
from siglip_index.repair import repair_catalogue

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlite_utils import Database

    from siglip_index.records import (
        Companion,
        FileEntry,
        Fingerprint,
        NewPhoto,
        PhotoFacts,
        Root,
        Space,
    )


@contextmanager
def transaction(database: Database) -> Iterator[CatalogueWriter]:
    """Give a writer whose changes are committed together when the block ends without exception."""
    with database.atomic():
        writer = CatalogueWriter(database.conn, now=time.time())
        yield writer
        writer.finish()


def repair(database: Database, broken_vectors: Iterable[tuple[int, int]]) -> None:
    """Delete what contradicts the rest; see `repair_catalogue`."""
    with database.atomic():
        repair_catalogue(database.conn, broken_vectors, now=time.time())


class CatalogueWriter:
    """One transaction's changes; implements `StoreWriter`.

    Which photos became visible or vanished is settled once for all files of the transaction, at
    its end at the latest: a photo whose file is replaced by another never flickers.

    Args:
        connection: Inside a transaction.
        now: The transaction's time, epoch seconds.
    """

    def __init__(self, connection: sqlite3.Connection, *, now: float) -> None:
        self._connection = connection
        self._now = now
        self._generation = generation(connection) + 1
        self._changes_before = connection.total_changes
        self._touched: set[int] = set()
        self._new_vectors: dict[tuple[int, int], tuple[bytes, str, str]] = {}
        self._spaces: dict[str, tuple[int, int]] = {}

    def ensure_space(self, space: Space) -> None:
        """See `StoreWriter.ensure_space`."""
        catalogue_spaces.ensure_space(self._connection, space, self._generation)

    def activate_space(self, key: str) -> None:
        """See `StoreWriter.activate_space`."""
        catalogue_spaces.activate_space(self._connection, key)

    def prepare_space(self, key: str | None) -> None:
        """See `StoreWriter.prepare_space`."""
        catalogue_spaces.prepare_space(self._connection, key)

    def drop_space(self, key: str) -> int:
        """See `StoreWriter.drop_space`."""
        self._settle()
        vectors = catalogue_spaces.drop_space(self._connection, key)
        self._spaces.pop(key, None)
        return vectors

    def put_tags(
        self,
        space_key: str,
        vocabulary: str,
        rows: Iterable[tuple[int, Sequence[tuple[str, float]]]],
    ) -> None:
        """See `StoreWriter.put_tags`."""
        self._settle()
        photo_tags.put_tags(self._connection, space_key, vocabulary, rows)

    def clear_tags(self, space_key: str) -> None:
        """See `StoreWriter.clear_tags`."""
        photo_tags.clear_tags(self._connection, space_key)

    def put_record(self, kind: str, key: str, value: str | None) -> None:
        """See `StoreWriter.put_record`."""
        small_records.put_record(self._connection, kind, key, value)

    def ensure_root(self, path: bytes, device: int | None) -> Root:
        """See `StoreWriter.ensure_root`."""
        return catalogue_roots.ensure_root(self._connection, path, device, self._touched)

    def relocate_root(self, root_id: int, new_path: bytes) -> int:
        """See `StoreWriter.relocate_root`."""
        return catalogue_roots.relocate_root(self._connection, root_id, new_path, self._touched)

    def set_root_volume(
        self, root_id: int, volume: str | None, volume_path: bytes | None, device: int | None
    ) -> None:
        """See `StoreWriter.set_root_volume`."""
        catalogue_roots.set_root_volume(self._connection, root_id, volume, volume_path, device)

    def remember_directory(self, directory: bytes) -> None:
        """See `StoreWriter.remember_directory`."""
        catalogue_roots.remember_directory(self._connection, directory)

    def set_root_exclude(self, root_id: int, patterns: Sequence[str]) -> None:
        """See `StoreWriter.set_root_exclude`."""
        catalogue_roots.set_root_exclude(self._connection, root_id, patterns)

    def set_online_only(
        self, root_id: int, paths: Iterable[bytes], under: bytes = b"", *, subfolders: bool = True
    ) -> None:
        """See `StoreWriter.set_online_only`."""
        catalogue_roots.set_online_only(
            self._connection, root_id, paths, under, subfolders=subfolders
        )

    def add_photo(self, space_key: str, photo: NewPhoto) -> int:
        """See `StoreWriter.add_photo`."""
        if space_key not in self._spaces:
            row = space_row(self._connection, space_key)
            self._spaces[space_key] = row.id, row.space.dimension
        space_id, dimension = self._spaces[space_key]
        embedding = half_vectors.encode(photo.vector, dimension)
        photo_id = self._photo_id(photo)
        key = space_id, photo_id
        if key not in self._new_vectors and not self._has_vector(*key):
            self._new_vectors[key] = embedding, photo.precision, photo.device
        return photo_id

    def _photo_id(self, photo: NewPhoto) -> int:
        known = self._connection.execute(
            "SELECT id FROM photo WHERE content_hash = ?", [photo.content_hash]
        ).fetchone()
        if known is not None:
            return int(known[0])
        columns = ("content_hash", *FACT_COLUMNS, "vanished_at")
        cursor = self._connection.execute(
            f"INSERT INTO photo ({', '.join(columns)}) VALUES ({marks(columns)})",  # noqa: S608
            # Invisible until a file names it.
            [photo.content_hash, *fact_values(photo.facts), self._now],
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def update_facts(self, photo_id: int, facts: PhotoFacts) -> None:
        """See `StoreWriter.update_facts`."""
        names = ", ".join(FACT_COLUMNS)
        self._connection.execute(
            f"UPDATE photo SET ({names}) = ({marks(FACT_COLUMNS)})"  # noqa: S608
            f" WHERE id = ? AND ({names}) IS NOT ({marks(FACT_COLUMNS)})",
            [*fact_values(facts), photo_id, *fact_values(facts)],
        )

    def forget_metadata(self, photo_ids: Iterable[int]) -> None:
        """See `StoreWriter.forget_metadata`."""
        self._connection.executemany(
            "UPDATE photo SET metadata_version = 0 WHERE id = ? AND metadata_version <> 0",
            [(photo_id,) for photo_id in photo_ids],
        )

    def _has_vector(self, space_id: int, photo_id: int) -> bool:
        row = self._connection.execute(
            "SELECT 1 FROM vector WHERE photo_id = ? AND space_id = ?", [photo_id, space_id]
        ).fetchone()
        return row is not None

    def link_files(self, photo_id: int, files: Iterable[FileEntry]) -> None:
        """See `StoreWriter.link_files`."""
        files = list(files)
        self._put_files(files, photo_id, None)
        self._touched.add(photo_id)
        for file in files[:1]:
            self._connection.execute(
                "UPDATE photo SET size = ? WHERE id = ? AND size IS NULL",
                [file.fingerprint.size, photo_id],
            )

    def record_failure(self, file: FileEntry, reason: str) -> None:
        """See `StoreWriter.record_failure`."""
        self._put_files([file], None, storable_text(reason))

    def _put_files(
        self, files: Collection[FileEntry], photo_id: int | None, failure: str | None
    ) -> None:
        for file in files:
            row = self._connection.execute(
                "SELECT photo_id FROM file WHERE root_id = ? AND path = ?",
                [file.root_id, file.path],
            ).fetchone()
            if row is not None and row[0] is not None:
                self._touched.add(row[0])
        file_rows.put_files(self._connection, files, photo_id, failure)

    def refresh_files(self, seen: Iterable[tuple[int, Fingerprint, int | None]]) -> None:
        """See `StoreWriter.refresh_files`."""
        seen = list(seen)
        self._touch_photos_of([file_id for file_id, _, _ in seen], "1")
        file_rows.refresh_files(self._connection, seen)

    def set_companions(self, file_id: int, companions: Iterable[Companion]) -> None:
        """See `StoreWriter.set_companions`."""
        file_rows.set_companions(self._connection, file_id, companions)

    def mark_vanished(self, file_ids: Iterable[int]) -> None:
        """See `StoreWriter.mark_vanished`."""
        file_ids = list(file_ids)
        self._touch_photos_of(file_ids, "vanished_at IS NULL")
        self._connection.executemany(
            "UPDATE file SET vanished_at = ? WHERE id = ? AND vanished_at IS NULL",
            [(self._now, file_id) for file_id in file_ids],
        )

    def drop_files(self, file_ids: Iterable[int]) -> None:
        """See `StoreWriter.drop_files`."""
        file_ids = list(file_ids)
        self._touch_photos_of(file_ids, "1")
        self._connection.executemany(
            "DELETE FROM file WHERE id = ?", [(file_id,) for file_id in file_ids]
        )

    def drop_root(self, root_id: int) -> int:
        """See `StoreWriter.drop_root`."""
        rows = self._connection.execute(
            "SELECT DISTINCT photo_id FROM file WHERE root_id = ? AND photo_id IS NOT NULL",
            [root_id],
        ).fetchall()
        named = [photo_id for (photo_id,) in rows]
        self._connection.execute("DELETE FROM file WHERE root_id = ?", [root_id])
        self._connection.execute("DELETE FROM root WHERE id = ?", [root_id])
        self._touched.update(named)
        self._settle()
        return self._delete_photos(
            photo_id
            for photo_id in named
            if self._connection.execute(
                "SELECT 1 FROM file WHERE photo_id = ? LIMIT 1", [photo_id]
            ).fetchone()
            is None
        )

    def prune(self, vanished_before: float) -> int:
        """See `StoreWriter.prune`."""
        self._settle()
        self._connection.execute("DELETE FROM file WHERE vanished_at < ?", [vanished_before])
        rows = self._connection.execute(
            "SELECT id FROM photo WHERE vanished_at < ?", [vanished_before]
        ).fetchall()
        return self._delete_photos(photo_id for (photo_id,) in rows)

    def _delete_photos(self, photo_ids: Iterable[int]) -> int:
        """Delete invisible photos, whose removal from the indexes is logged already."""
        doomed = [(photo_id,) for photo_id in photo_ids]
        for table, column in (("file", "photo_id"), ("vector", "photo_id"), ("photo", "id")):
            self._connection.executemany(
                f"DELETE FROM {table} WHERE {column} = ?",  # noqa: S608 - constants only
                doomed,
            )
        return len(doomed)

    def _touch_photos_of(self, file_ids: Collection[int], condition: str) -> None:
        for chunk in chunks(list(file_ids)):
            rows = self._connection.execute(
                "SELECT photo_id FROM file"  # noqa: S608 - constants only
                f" WHERE id IN ({marks(chunk)}) AND photo_id IS NOT NULL AND {condition}",
                chunk,
            )
            self._touched.update(photo_id for (photo_id,) in rows)

    def finish(self) -> None:
        """Bring visibility and the change log up to date; the last step before the commit."""
        self._settle()
        if self._connection.total_changes != self._changes_before:
            self._connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'generation'", [self._generation]
            )

    def _settle(self) -> None:
        fresh = self._insert_new_vectors()
        appeared: list[int] = []
        vanished: list[int] = []
        additions: list[tuple[int, int]] = []
        changed: list[tuple[float | None, int | str | None, int]] = []
        for chunk in chunks(sorted(self._touched | fresh.keys())):
            rows = self._connection.execute(
                f"SELECT id, vanished_at, oldest_mtime_ns, {OLDEST_MTIME}"  # noqa: S608
                f" FROM photo WHERE id IN ({marks(chunk)})",
                chunk,
            )
            for photo_id, vanished_at, known_mtime_ns, oldest_mtime_ns in rows:
                was_visible, is_visible = vanished_at is None, oldest_mtime_ns is not None
                if was_visible and not is_visible:
                    vanished.append(photo_id)
                elif is_visible and not was_visible:
                    appeared.append(photo_id)
                elif is_visible:
                    additions += [(space_id, photo_id) for space_id in fresh.get(photo_id, ())]
                if was_visible != is_visible or known_mtime_ns != oldest_mtime_ns:
                    since = None if is_visible else self._now if was_visible else vanished_at
                    changed.append((since, oldest_mtime_ns, photo_id))
        self._connection.executemany(
            "UPDATE photo SET vanished_at = ?, oldest_mtime_ns = ? WHERE id = ?", changed
        )
        self._log("add", additions + self._vectors_of(appeared))
        self._log("remove", self._vectors_of(vanished))
        self._touched.clear()

    def _insert_new_vectors(self) -> dict[int, list[int]]:
        """Write the vectors that wait; return the spaces of each photo that got one."""
        self._connection.executemany(
            "INSERT INTO vector (space_id, photo_id, embedding, precision, device)"
            " VALUES (?, ?, ?, ?, ?)",
            [(*key, *value) for key, value in self._new_vectors.items()],
        )
        fresh: dict[int, list[int]] = {}
        for space_id, photo_id in self._new_vectors:
            fresh.setdefault(photo_id, []).append(space_id)
        self._new_vectors.clear()
        return fresh

    def _vectors_of(self, photo_ids: Collection[int]) -> list[tuple[int, int]]:
        pairs: list[tuple[int, int]] = []
        for chunk in chunks(list(photo_ids)):
            pairs += self._connection.execute(
                f"SELECT space_id, photo_id FROM vector WHERE photo_id IN ({marks(chunk)})",  # noqa: S608
                chunk,
            )
        return pairs

    def _log(self, kind: str, pairs: Iterable[tuple[int, int]]) -> None:
        self._connection.executemany(
            "INSERT INTO change (generation, space_id, photo_id, kind) VALUES (?, ?, ?, ?)",
            [(self._generation, space_id, photo_id, kind) for space_id, photo_id in pairs],
        )
