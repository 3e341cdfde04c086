"""Conditions become SQL purely."""

from __future__ import annotations

import sqlite3

import pytest

from siglip_index.records import Root, Where
from siglip_index.where import compile_where

ROOTS = [Root(1, b"/photos", None), Root(2, b"/", None), Root(3, b"/photos-2/one.jpg", None)]


def test_no_condition_always_holds() -> None:
    assert compile_where(Where(), ROOTS) == ("1", [])


def test_values_are_parameters_and_never_part_of_the_statement() -> None:
    where = Where(under=(b"/x'; DROP",), formats=("J'",), taken_from="2020", taken_before="2021-02")
    condition, parameters = compile_where(where, ROOTS[1:2])
    assert "DROP" not in condition
    assert "J'" not in condition
    assert condition.count("?") == len(parameters)
    assert parameters == [2, b"x'; DROP", b"x'; DROP/", b"x'; DROP0", "J'", "2020", "2021-02"]


def test_folder_above_a_root_takes_all_of_it_and_one_below_a_range() -> None:
    _, parameters = compile_where(Where(under=(b"/photos-2",)), ROOTS[2:])
    assert parameters == [3]
    _, parameters = compile_where(Where(under=(b"/photos/a",)), ROOTS[:1])
    assert parameters == [1, b"a", b"a/", b"a0"]


def test_folder_outside_all_roots_selects_nothing() -> None:
    condition, parameters = compile_where(Where(under=(b"/elsewhere",)), ROOTS[:1])
    assert "(0)" in condition
    assert parameters == []


def test_range_is_the_folder_and_nothing_beside_it() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY, taken_at, format)")
    connection.execute("CREATE TABLE file (photo_id, root_id, path BLOB, vanished_at)")
    paths = [b"a", b"a/x", b"a/\xff", b"a.", b"a0", b"ab/x", b"A/x", b"b"]
    for number, path in enumerate(paths):
        connection.execute("INSERT INTO photo (id) VALUES (?)", [number])
        connection.execute("INSERT INTO file VALUES (?, 1, ?, NULL)", [number, path])
    condition, parameters = compile_where(Where(under=(b"/photos/a",)), ROOTS[:1])
    found = connection.execute(f"SELECT id FROM photo WHERE {condition}", parameters).fetchall()
    connection.close()
    assert [paths[number] for (number,) in found] == [b"a", b"a/x", b"a/\xff"]


@pytest.mark.parametrize(
    "time", ["", "yesterday", "20", "2020-1-1", "2020-01-01T", "2020-01-01; --", "2020-01-01T10:0"]
)
def test_what_is_no_time_is_refused(time: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        compile_where(Where(taken_from=time), ROOTS)


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
    assert compile_where(Where(taken_before=time), ROOTS)[1] == [local]
