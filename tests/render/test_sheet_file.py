"""A sheet as a file: one HTML page that needs nothing else, or a PNG; no picture is overwritten."""

from __future__ import annotations

import base64
import io
import os
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from siglip_search.errors import PathError
from siglip_search.render.contact_sheet import SheetRow, Tile
from siglip_search.render.file_links import file_url
from siglip_search.render.sheet_file import check_sheet, save_sheet

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "</figcaption><script>alert('1')</script>\"' onload=x &amp; <b>"

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "ol", "li", "figure", "a"),
    *("img", "figcaption", "b", "small"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "href", "class", "src", "alt"),
    "loading",
}


class Page(HTMLParser):
    """What a browser sees of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a picture.jpg"
    Image.new("RGB", (640, 480), "red").save(path, comment=HOSTILE.encode())
    return path


def saved(path: Path, *tiles: Tile, heading: str = "what", title: str = "a title") -> Page:
    save_sheet([SheetRow(heading, tiles)], path, title=title)
    return Page(path)


def test_page_holds_pictures_captions_and_links(tmp_path: Path, picture: Path) -> None:
    tile = Tile(str(picture), "93.1%", picture.name, ("2024-05-03", "/photos"))
    page = saved(tmp_path / "sheet.html", tile)
    (image,) = page.all("img")
    kind, _, data = (image["src"] or "").partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        assert thumbnail.size == (320, 240)
        assert thumbnail.getpixel((9, 9)) == pytest.approx((255, 0, 0), abs=3)
        assert "comment" not in thumbnail.info
    assert [link["href"] for link in page.all("a")] == [file_url(str(picture))] * 2
    for text in ("93.1%", picture.name, "2024-05-03", "/photos", "what", "a title"):
        assert text in page.texts


def test_nothing_on_the_page_is_fetched_or_run(tmp_path: Path, picture: Path) -> None:
    page = saved(
        tmp_path / "sheet.html",
        Tile(str(picture), HOSTILE, HOSTILE, (HOSTILE,)),
        heading=HOSTILE,
        title=HOSTILE,
    )
    assert {tag for tag, _ in page.tags} <= TAGS
    assert {name for _, attributes in page.tags for name in attributes} <= ATTRIBUTES
    assert page.texts.count(HOSTILE) == 6  # two of them the page's title, none of them obeyed
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_is_read_back_and_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sheet.html"
    plain = saved(path, Tile("/gone.jpg", "x", "x", ("x",)), heading="x")
    page = saved(path, Tile("/gone.jpg", text, text or "x", (text,)), heading=text)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


def test_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    page = saved(tmp_path / "sheet.html", Tile(str(tmp_path / "gone.jpg"), "90%", "gone.jpg"))
    assert page.all("img") == []
    assert "cannot be shown" in page.texts
    assert "gone.jpg" in page.texts


def test_page_without_hits_says_so(tmp_path: Path) -> None:
    assert "nothing matches" in saved(tmp_path / "sheet.htm").texts


def test_former_sheet_is_replaced_and_nothing_else_is(tmp_path: Path, picture: Path) -> None:
    for name in ("sheet.html", "sheet.png"):
        path = tmp_path / name
        save_sheet([SheetRow("one", [])], path, title="")
        former = path.read_bytes()
        save_sheet([SheetRow("two", [Tile(str(picture), "90%")])], path, title="")
        assert path.read_bytes() != former
    own = tmp_path / "holiday.png"
    Image.new("RGB", (30, 30), "red").save(own)
    content = own.read_bytes()
    with pytest.raises(PathError, match="exists already and is no contact sheet"):
        save_sheet([SheetRow("one", [])], own, title="")
    assert own.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["a picture.jpg", "holiday.png", "sheet.html", "sheet.png"]
    )


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_what_lies_beside_a_sheet_stays_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "sheet.html.tmp").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sheet.html").symlink_to(tmp_path / "elsewhere" / "sheet.html")
    for heading in ("one", "two"):
        save_sheet([SheetRow(heading, [])], tmp_path / "sheet.html", title="")
    assert (tmp_path / "sheet.html.tmp").read_text() == "mine"
    assert (tmp_path / "sheet.html").is_symlink()
    assert "two" in (tmp_path / "elsewhere" / "sheet.html").read_text(encoding="utf-8")
    assert len(os.listdir(tmp_path)) + len(os.listdir(tmp_path / "elsewhere")) == 4


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("sheet.jpg", "must end in"),
        ("sheet", "must end in"),
        (".png", "must end in"),
        ("none/sheet.png", "does not exist"),
        ("folder.html", "is a folder"),
    ],
)
def test_bad_names_are_refused_before_the_search(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(PathError, match=complaint) as caught:
        check_sheet(tmp_path / name)
    assert caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="a file system that takes no files")
def test_place_that_takes_no_file_is_one_clear_line() -> None:
    from pathlib import Path

    with pytest.raises(PathError, match=r"contact sheet /proc/sheet\.html cannot be written"):
        save_sheet([SheetRow("one", [])], Path("/proc/sheet.html"), title="")


@pytest.mark.skipif(os.name == "nt", reason="paths are not bytes there")
def test_urls_of_files_are_ascii_and_lead_back() -> None:
    from urllib.parse import unquote_to_bytes

    path = b"/a b/%41?#\xff\n\xc3\xbc.jpg"
    url = file_url(os.fsdecode(path), host="here")
    assert url.startswith("file://here/a%20b/%2541%3F%23")
    assert url.isascii()
    assert unquote_to_bytes(url.removeprefix("file://here")) == path
