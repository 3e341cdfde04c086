"""Conditions become SQL purely."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, file_entry, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.moments import local_time
from siglip_index.records import Where
from siglip_index.where import id_statements, keyword_statement, row_condition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a library with three roots."""
    with open_store(tmp_path, writable=True) as store, store.write() as writer:
        for path in (b"/photos", b"/photos-2/one.jpg", b"/other"):
            writer.ensure_root(path, None)
    with closing(sqlite3.connect(tmp_path / "library.sqlite3")) as connection:
        yield connection


def test_no_condition_selects_nothing_of_its_own(connection: sqlite3.Connection) -> None:
    assert list(id_statements(Where(), connection)) == []
    assert row_condition(Where()) is None


def test_values_are_parameters_and_never_part_of_the_statement(
    connection: sqlite3.Connection,
) -> None:
    where = Where(
        under=(b"/other/x'; DROP",),
        formats=("DROP'",),
        taken_from="2020",
        taken_before="2021-02",
        cameras=("'; DROP",),
        lenses=("'; DROP",),
        keywords=("'; DROP",),
        tags=("'; DROP",),
    )
    condition, values = row_condition(where) or ("", [])
    statements = [
        *id_statements(where, connection),
        keyword_statement("'; DROP"),
        (f"SELECT id FROM photo WHERE {condition}", values),
    ]
    for statement, parameters in statements:
        assert "DROP" not in statement
        assert statement.count("?") == len(parameters)
        connection.execute(statement, parameters)
    assert statements[1][1] == [3, b"x'; DROP", b"x'; DROP/", b"x'; DROP0"]


def test_folder_above_a_root_takes_all_of_it_and_one_below_a_range(
    connection: sqlite3.Connection,
) -> None:
    ((_, parameters),) = id_statements(Where(under=(b"/photos-2",)), connection)
    assert parameters == [2]
    ((_, parameters),) = id_statements(Where(under=(b"/photos/a",)), connection)
    assert parameters == [1, b"a", b"a/", b"a0"]


def test_folder_outside_all_roots_selects_nothing(connection: sqlite3.Connection) -> None:
    ((statement, parameters),) = id_statements(Where(under=(b"/elsewhere",)), connection)
    assert "(0)" in statement
    assert parameters == []


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (Where(changed_from=1.0), "file_by_change"),
        (Where(taken_from="2020"), "photo_by_moment"),
        (Where(cameras=("a",)), "photo_by_camera"),
        (Where(lenses=("a",)), "photo_by_lens"),
        (Where(min_rating=3), "photo_by_rating"),
        (Where(has_gps=True), "photo_by_position"),
        (Where(tags=("a",)), "sqlite_autoindex_tag_1"),
    ],
)
def test_index_alone_answers_a_condition(
    connection: sqlite3.Connection, where: Where, index: str
) -> None:
    for statement, parameters in id_statements(where, connection):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        tables = [step for step in plan if step.split()[1] in ("photo", "file", "tag")]
        assert tables
        assert all(f"COVERING INDEX {index}" in step for step in tables), plan


def test_range_is_the_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    paths = [b"a", b"a/x", b"a/\xff", b"a.", b"a0", b"ab/x", b"A/x", b"b"]
    with open_store(tmp_path, writable=True) as store:
        with store.write() as writer:
            writer.ensure_space(SPACE)
            root = writer.ensure_root(b"/photos", None)
            for number, path in enumerate(paths):
                photo_id = writer.add_photo(SPACE.key, new_photo(number, unit_vectors(1)[0]))
                writer.link_files(photo_id, [file_entry(root.id, path)])
        (found,) = store.nearest(SPACE.key, unit_vectors(1), 10, Where(under=(b"/photos/a",)))
        photos = store.photos([neighbour.photo_id for neighbour in found])
    assert {path for photo in photos for path in photo.paths} == {
        b"/photos/a",
        b"/photos/a/x",
        b"/photos/a/\xff",
    }


@pytest.mark.parametrize(
    "time",
    [
        "",
        "yesterday",
        "20",
        "2020-1-1",
        "2020-01-01T",
        "2020-01-01; --",
        "2020-01-01T10:0",
        "2020-13",
        "2023-02-29",
        "0000",
    ],
)
def test_what_is_no_time_is_refused(connection: sqlite3.Connection, time: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        list(id_statements(Where(taken_from=time), connection))


@pytest.mark.parametrize(
    ("time", "local"),
    [
        ("2020", "2020"),
        ("2020-05", "2020-05"),
        ("2020-05-04 10:11", "2020-05-04T10:11"),
        ("2020-05-04T10:11:12.5+02:00", "2020-05-04T10:11:12"),
        ("2020-05-04T10:11:12Z", "2020-05-04T10:11:12"),
    ],
)
def test_times_are_compared_as_the_clock_showed_them(time: str, local: str) -> None:
    assert local_time(time) == local
