"""--format: what is understood, what is refused, and that nothing else is reached."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.errors import QueryError
from siglip_search.render.row_format import MAX_WIDTH, RowFormat

KINDS = {"rank": "int", "path": "str", "probability": "float", "keywords": "str"}
VALUES = {"rank": 3, "path": "/a b/ü.jpg", "probability": 0.876, "keywords": ("dog", "sea")}


def written(template: str, **changes: object) -> str:
    return RowFormat(template, kinds=KINDS).written({**VALUES, **changes})


@pytest.mark.parametrize(
    ("template", "row"),
    [
        ("{probability:.2f} {path}", "0.88 /a b/ü.jpg"),
        ("{rank:>4}|{rank:03d}|{probability:.1%}", "   3|003|87.6%"),
        ("{path:*^14}", "**/a b/ü.jpg**"),
        (r"{rank}\t{path}\n", "3\t/a b/ü.jpg\n"),
        (r"C:\\{rank}", "C:\\3"),
        ("{{{rank}}}", "{3}"),
        ("{keywords}", "dog, sea"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_rows_are_written_as_asked(template: str, row: str) -> None:
    assert written(template) == row


def test_what_is_not_known_is_left_empty() -> None:
    assert written("[{probability:6.2f}]", probability=None) == "[      ]"
    assert written("[{probability:.2f}]", probability=None) == "[]"
    assert written("[{keywords}]", keywords=()) == "[]"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{path.__class__}", "asks for 'path.__class__'"),
        ("{path[0]}", r"asks for 'path\[0\]'"),
        ("{0}", "asks for '0'"),
        ("{}", "asks for ''"),
        ("{score}", "asks for 'score'"),
        ("{path!r}", "cannot write path as '!r'"),
        ("{rank:{path}}", "cannot write rank"),
        ("{rank:{path.__class__}}", "cannot write rank"),
        ("{path:.2f}", "cannot write path as ':.2f'"),
        ("{probability:d}", "cannot write probability"),
        ("{path:1001}", "cannot write path"),
        ("{probability:.999999999f}", "cannot write probability"),
        ("{rank", "has no meaning"),
        ("rank}", "has no meaning"),
        (r"\x{rank}", "has no meaning"),
        ("{rank}\\", "has no meaning"),
    ],
)
def test_other_formats_are_refused_before_anything_is_searched(
    template: str, complaint: str
) -> None:
    with pytest.raises(QueryError, match=complaint) as caught:
        RowFormat(template, kinds=KINDS)
    assert caught.value.hint


FRAGMENTS = [
    "{",
    "}",
    "path",
    "rank",
    ".",
    "__class__",
    "[0]",
    ":",
    "!r",
    ">",
    "9",
    ".2f",
    "\\",
    "n",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_any_template_is_refused_or_reaches_the_values_alone(template: str) -> None:
    try:
        row_format = RowFormat(template, kinds={"path": "str", "rank": "int"})
    except QueryError:
        return
    row = row_format.written({"path": "/a.jpg", "rank": 7})
    # A class would be written as "<class 'str'>".
    assert "<" not in row
    assert len(row) <= len(template) * (MAX_WIDTH + 8)


@given(st.floats(0, 1), st.integers(0, 40), st.integers(0, 20))
def test_numbers_are_pythons(value: float, width: int, precision: int) -> None:
    row = written(f"{{probability:{width or ''}.{precision}f}}", probability=value)
    assert row == format(value, f"{width or ''}.{precision}f")
    assert math.isclose(float(row), value, abs_tol=0.5 * 10**-precision + 1e-12)
