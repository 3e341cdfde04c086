"""Thumbnails that are kept: a convenience that may be full, damaged, shared, or gone."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from siglip_search.engine.purge import purge, what_purge_removes
from siglip_search.engine.thumbnail_cache import (
    ThumbnailCache,
    thumbnail_cache_file,
    thumbnail_cache_files,
)

if TYPE_CHECKING:
    from pathlib import Path


def content(number: int) -> bytes:
    return number.to_bytes(32, "big")


def filled(path: Path, count: int) -> None:
    with ThumbnailCache(path) as cache:
        cache.put([(content(number), bytes([number % 256]) * 2000) for number in range(count)])


def test_cache_gives_back_what_was_put_in(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "thumbnails.sqlite3"
    with ThumbnailCache(path) as cache:
        cache.put([(b"a" * 32, b"one"), (b"b" * 32, b"two")])
        assert cache.known([b"a" * 32, b"c" * 32]) == {b"a" * 32}
        cache.forget(b"a" * 32)
    with ThumbnailCache(path) as cache:
        assert cache.get(b"b" * 32) == b"two"
        assert cache.known([b"a" * 32, b"b" * 32]) == {b"b" * 32}
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("before", [b"no database at all" * 100, b""])
def test_what_is_no_database_is_replaced(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "thumbnails.sqlite3"
    path.write_bytes(before)
    filled(path, 2)
    with ThumbnailCache(path) as cache:
        assert cache.known([content(1)]) == {content(1)}


def test_thumbnails_of_another_version_are_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.sqlite3"
    filled(path, 2)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with ThumbnailCache(path) as cache:
        assert cache.known([content(1)]) == set()


def test_two_at_once_see_what_the_other_kept(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.sqlite3"
    with ThumbnailCache(path) as one, ThumbnailCache(path) as other:
        one.put([(content(1), b"one")])
        other.put([(content(2), b"two")])
        assert one.get(content(2)) == b"two"
        assert other.known([content(1), content(2)]) == {content(1), content(2)}


def test_full_disk_loses_nothing_of_what_was_kept_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "thumbnails.sqlite3"
    filled(path, 20)
    with ThumbnailCache(path) as cache:
        assert cache._connection is not None
        cache._connection.execute("PRAGMA max_page_count = 1")  # not below what there is
        new = [(content(number), b"new" * 1000) for number in range(100, 200)]
        cache.put(new)
        cache.put(new)
        assert cache.get(content(7)) == bytes([7]) * 2000
        assert cache.get(content(150)) == b"new" * 1000
        assert cache.known([content(7), content(150)]) == {content(7), content(150)}
    assert caplog.text.count("not kept") == 1
    with ThumbnailCache(path) as cache:
        assert cache.known([content(7), content(150)]) == {content(7)}


def test_file_that_is_damaged_further_on_is_made_anew_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.sqlite3"
    filled(path, 200)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (size - 2 * 4096))
    wanted = [content(number) for number in range(200)]
    with ThumbnailCache(path) as cache:
        # What cannot be given back is not said to be there.
        assert cache.known(wanted) == {one for one in wanted if cache.get(one) is not None}
        cache.put([(content(1), b"again")])
        assert cache.get(content(1)) == b"again"
    with ThumbnailCache(path) as cache:
        cache.put([(content(1), b"again")])
    with ThumbnailCache(path) as cache:
        assert cache.known(wanted) == {content(1)}
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


@pytest.mark.parametrize("has_stranger", [False, True])
def test_purge_removes_the_thumbnails_and_leaves_what_others_keep_there(
    isolated_home: Path, tmp_path: Path, has_stranger: bool
) -> None:
    file = thumbnail_cache_file()
    assert isolated_home in file.parents, "the tests have a home of their own"
    filled(file, 3)
    for beside in thumbnail_cache_files()[1:]:
        beside.write_bytes(b"left by a crash")
    stranger = file.parent / "somebody-elses.txt"
    if has_stranger:
        stranger.write_text("keep me")
    assert set(thumbnail_cache_files()) <= set(what_purge_removes(tmp_path / "library"))
    purge(tmp_path / "library")
    assert not any(os.path.lexists(path) for path in thumbnail_cache_files())
    assert file.parent.exists() == has_stranger
    assert stranger.exists() == has_stranger
