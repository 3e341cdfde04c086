"""An answer in all its forms, and that no missing picture breaks one of them."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from siglip_search.cli.output_options import Form, Output
from siglip_search.cli.query_output import show_answer
from siglip_search.render.row_format import RowFormat
from siglip_search.search.ranking import Answer, Hit

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schema" / "query.schema.json"


def made_hit(rank: int = 1, path: str = "/photos/cat.jpg", **changes: Any) -> Hit:
    return replace(
        Hit(
            rank=rank,
            path=path,
            probability=0.5 / rank,
            cosine=0.12,
            copies=(),
            photo_id=rank,
            width=640,
            height=480,
            format="JPEG",
            taken_at="2024-05-03T10:00:00",
            camera="Fuji X100",
        ),
        **changes,
    )


def show(
    capfdbinary: pytest.CaptureFixture[bytes],
    hits: Sequence[Hit],
    *,
    expect: int = 0,
    notice: str | None = None,
    **output: Any,
) -> tuple[bytes, str]:
    """Return what was written to stdout and stderr."""
    status = show_answer(Answer(tuple(hits)), "a cat", Output(**output), notice=notice)
    sys.stdout.flush()
    stdout, stderr = capfdbinary.readouterr()
    assert status == expect, stderr
    return stdout, stderr.decode()


def test_rows_show_the_calibrated_probability_before_the_models(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    hits = [
        made_hit(1, calibrated_probability=0.931),
        made_hit(2),
        made_hit(3, probability=None),
        made_hit(4, calibrated_probability=1.0),
    ]
    stdout, stderr = show(capfdbinary, hits, notice="drawings only")
    assert stdout.decode().splitlines() == [
        f" 93.1%  {hits[0].path}",
        f" 25.0%  {hits[1].path}",
        f" 0.120  {hits[2].path}",
        f"100.0%  {hits[3].path}",
    ]
    assert stderr == "drawings only\n"


def test_companions_and_copies_stand_behind_a_row(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    hit = made_hit(companions=("/photos/cat.CR2", "/photos/cat.mov"), copies=("/b.jpg", "/c.jpg"))
    stdout, _ = show(capfdbinary, [hit])
    assert stdout == b" 50.0%  /photos/cat.jpg  [+CR2 +MOV]  (+2 more)\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(()), "nothing matches 'a cat'"),
        (Answer((), 0.0123, cut_on="probability"), "1.23% only (--min-probability lowers"),
        (Answer((), 0.0123), "1.23% only (--min-probability lowers"),
        (Answer((), 0.3, cut_on="calibrated"), "30.00% only (--min-calibrated lowers"),
        (Answer((), is_filtered_out=True), "no picture meets the filters"),
        (Answer((), passed_over=1), "only 1 picture matches: --offset passes over all"),
        (Answer((), passed_over=30), "only 30 pictures match: --offset passes over all"),
        (Answer((), 0.61, cut_on="similarity"), "a similarity of 0.610 only (--min-similarity"),
    ],
)
def test_nothing_is_an_answer_that_says_how_near_it_was(
    capfdbinary: pytest.CaptureFixture[bytes], answer: Answer, words: str
) -> None:
    assert show_answer(answer, "a cat", Output(), notice="drawings only") == 1
    stdout, stderr = capfdbinary.readouterr()
    assert stdout == b""
    assert words in stderr.decode()
    assert "drawings only" not in stderr.decode()


@pytest.mark.skipif(os.name == "nt", reason="paths are not bytes there")
@pytest.mark.parametrize("form", Form)
def test_paths_that_are_no_text_survive_every_form(
    capfdbinary: pytest.CaptureFixture[bytes], form: Form
) -> None:
    raw = b"/photos/\xff\xc3\xbc cat\x1b[31m.jpg"
    row_format = RowFormat("{path}", kinds={"path": "str"}) if form is Form.FORMAT else None
    stdout, _ = show(
        capfdbinary, [made_hit(path=os.fsdecode(raw))], form=form, row_format=row_format
    )
    match form:
        case Form.ROWS:
            assert b"\x1b" not in stdout
        case Form.PATHS | Form.FORMAT:
            assert stdout == raw + b"\n"
        case Form.JSON:
            assert os.fsencode(json.loads(stdout)[0]["path"]) == raw
        case Form.NL:
            assert os.fsencode(json.loads(stdout)["path"]) == raw
        case Form.CSV | Form.TSV:
            assert raw in stdout


def test_each_path_ends_as_asked(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    hit = made_hit(copies=("/copy.jpg",), companions=("/photos/cat.xmp",))
    assert show(capfdbinary, [hit], form=Form.PATHS)[0] == b"/photos/cat.jpg\n"
    assert (
        show(capfdbinary, [hit], form=Form.PATHS, null=True, all_files=True)[0]
        == b"/photos/cat.jpg\0/copy.jpg\0/photos/cat.xmp\0"
    )
    row_format = RowFormat("{rank}", kinds={"rank": "int"})
    assert show(capfdbinary, [hit], form=Form.FORMAT, row_format=row_format, null=True)[0] == b"1\0"


@pytest.mark.parametrize("form", [Form.CSV, Form.TSV])
def test_no_cell_is_a_formula(capfdbinary: pytest.CaptureFixture[bytes], form: Form) -> None:
    hits = [
        made_hit(1, camera="=HYPERLINK(1)", lens="@SUM(A1)", latitude=-33.9),
        made_hit(2, camera="+1", lens="-1"),
        made_hit(3, camera="E-M1", lens=None),
    ]
    stdout, _ = show(capfdbinary, hits, form=form)
    delimiter = "," if form is Form.CSV else "\t"
    rows = list(csv.DictReader(io.StringIO(stdout.decode()), delimiter=delimiter))
    assert [(row["camera"], row["lens"]) for row in rows] == [
        ("'=HYPERLINK(1)", "'@SUM(A1)"),
        ("'+1", "'-1"),
        ("E-M1", ""),
    ]
    assert rows[0]["latitude"] == "-33.9"


@pytest.mark.parametrize(("form", "delimiter"), [(Form.CSV, ","), (Form.TSV, "\t")])
def test_tables_are_read_back(
    capfdbinary: pytest.CaptureFixture[bytes], form: Form, delimiter: str
) -> None:
    odd = 'a\t"b",\nc.jpg'
    stdout, _ = show(capfdbinary, [made_hit(path=odd), made_hit(2, probability=None)], form=form)
    rows = list(csv.DictReader(io.StringIO(stdout.decode(), newline=""), delimiter=delimiter))
    assert [row["path"] for row in rows] == [odd, "/photos/cat.jpg"]
    assert [row["probability"] for row in rows] == ["0.5", ""]
    # Programs that read columns by their position: these never move.
    heading = stdout.decode().splitlines()[0].split(delimiter)
    assert heading[:4] == ["rank", "path", "probability", "cosine"]


texts = st.text(max_size=12)
probabilities = st.floats(0, 1)
any_hits = st.builds(
    Hit,
    rank=st.integers(1, 10**6),
    path=texts,
    probability=st.none() | probabilities,
    cosine=st.floats(-1, 1),
    copies=st.lists(texts, max_size=2).map(tuple),
    photo_id=st.integers(1, 10**9),
    width=st.integers(1, 10**5),
    height=st.integers(1, 10**5),
    format=texts,
    taken_at=st.none() | st.datetimes().map(lambda time: time.isoformat()),
    camera=st.none() | texts,
    calibrated_probability=st.none() | probabilities,
    companions=st.lists(texts, max_size=2).map(tuple),
    taken_source=st.sampled_from([None, "exif", "xmp", "iptc", "sidecar", "file-name"]),
    lens=st.none() | texts,
    exposure_seconds=st.none() | st.floats(1e-6, 1e5),
    f_number=st.none() | st.floats(0.5, 128),
    iso=st.none() | st.integers(1, 10**7),
    focal_length_mm=st.none() | st.floats(0.1, 5000),
    latitude=st.none() | st.floats(-90, 90),
    longitude=st.none() | st.floats(-180, 180),
    altitude_m=st.none() | st.floats(-500, 9000),
    rating=st.none() | st.integers(-1, 5),
    title=st.none() | texts,
    keywords=st.lists(texts, max_size=3, unique=True).map(tuple),
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(hits=st.lists(any_hits, max_size=3))
def test_json_keeps_to_its_schema(
    capfdbinary: pytest.CaptureFixture[bytes], hits: list[Hit]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    stdout, _ = show(capfdbinary, hits, form=Form.JSON, expect=0 if hits else 1)
    assert stdout.isascii()
    jsonschema.validate(json.loads(stdout), schema, jsonschema.Draft202012Validator)
    lines, _ = show(capfdbinary, hits, form=Form.NL, expect=0 if hits else 1)
    assert [json.loads(line) for line in lines.splitlines()] == json.loads(stdout)


def test_schema_is_sound_and_knows_every_field() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    hit = schema["$defs"]["hit"]
    assert set(hit["required"]) == {field.name for field in fields(Hit)}
    assert set(hit["properties"]) == {*hit["required"], "explanation"}
    assert all(value.get("description") for value in hit["properties"].values())


def test_schema_refuses_what_is_no_answer() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for wrong in ({}, [{}], [{"path": "/a.jpg"}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.fixture
def found(tmp_path: Path) -> list[Hit]:
    """Three hits: one that is there with its RAW, one that is damaged, and one that is gone."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "red.png")
    (folder / "red.CR2").write_bytes(b"raw")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    return [
        made_hit(
            1,
            str(folder / "red.png"),
            companions=(str(folder / "red.CR2"), str(tmp_path / "other" / "red.CR2")),
        ),
        made_hit(2, str(folder / "damaged.jpg")),
        made_hit(3, str(folder / "gone.jpg")),
    ]


@pytest.mark.parametrize("name", ["sheet.png", "sheet.html"])
def test_sheet_is_drawn_beside_the_rows(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, found: list[Hit], name: str
) -> None:
    stdout, stderr = show(capfdbinary, found, sheet=tmp_path / name)
    assert len(stdout.splitlines()) == 3
    assert f"contact sheet: {tmp_path / name}" in stderr
    assert (tmp_path / name).stat().st_size > 1000


def test_sheet_of_nothing_replaces_a_former_answer(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, found: list[Hit]
) -> None:
    sheet = tmp_path / "sheet.html"
    show(capfdbinary, found, sheet=sheet)
    show(capfdbinary, [], sheet=sheet, expect=1)
    assert "nothing matches" in sheet.read_text(encoding="utf-8")
    assert "red.png" not in sheet.read_text(encoding="utf-8")


def test_copies_are_made_and_what_is_gone_is_named(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, found: list[Hit]
) -> None:
    out = tmp_path / "out"
    stdout, stderr = show(capfdbinary, found, copy_to=out, form=Form.JSON, expect=2)
    assert len(json.loads(stdout)) == 3
    assert f"{out}: 2 copied" in stderr
    assert f"{found[2].path}: it is not there any more" in stderr
    assert sorted(os.listdir(out)) == ["damaged.jpg", "red.png"]
    _, stderr = show(capfdbinary, found[:1], copy_to=out, all_files=True)
    assert f"{out}: 1 copied, 1 there already" in stderr
    # Not the RAW of another copy elsewhere, which bears the same name.
    assert sorted(os.listdir(out)) == ["damaged.jpg", "red.CR2", "red.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_are_made(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, found: list[Hit]
) -> None:
    _, stderr = show(capfdbinary, found[:2], link_to=tmp_path / "out")
    assert f"{tmp_path / 'out'}: 2 linked to" in stderr
    assert "refused" not in stderr
    assert os.readlink(tmp_path / "out" / "red.png") == found[0].path


def test_nothing_found_makes_no_folder(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    show(capfdbinary, [], copy_to=tmp_path / "out", expect=1)
    assert not (tmp_path / "out").exists()


def test_links_of_rows_are_written_when_asked_for(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert b"\x1b" not in show(capfdbinary, [made_hit()])[0]
    assert b"\x1b" not in show(capfdbinary, [made_hit()], hyperlink="never")[0]
    stdout, _ = show(capfdbinary, [made_hit(path="/a b/\x07ü.jpg")], hyperlink="always")
    text, url = r"/a b/\x07ü.jpg", "/a%20b/%07%C3%BC.jpg"
    assert stdout.decode().startswith(" 50.0%  \x1b]8;;file://")
    assert stdout.decode().endswith(f"{url}\x1b\\{text}\x1b]8;;\x1b\\\n")


def test_pipes_get_no_previews(
    capfdbinary: pytest.CaptureFixture[bytes], found: list[Hit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    for preview in (None, "auto", "kitty", "blocks"):
        assert b"\x1b" not in show(capfdbinary, found, preview=preview)[0]
