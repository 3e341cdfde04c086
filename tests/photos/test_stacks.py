"""Which files belong together, by their names alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.photos.stacks import in_order_of_weight, may_accompany, stacked_names


def stacked(*names: bytes, pictures: tuple[bytes, ...]) -> dict[bytes, set[bytes]]:
    stacks = stacked_names(pictures, names)
    return {main: {name for name, _ in members} for main, members in stacks.items()}


def test_raw_beside_a_jpeg_belongs_to_it_whether_raws_are_read_or_not() -> None:
    read = stacked_names([b"IMG_1.JPG", b"IMG_1.CR2"], [])
    assert read == {b"IMG_1.JPG": [(b"IMG_1.CR2", "raw")]}
    assert stacked_names([b"IMG_1.JPG"], [b"IMG_1.CR2"]) == read


def test_raw_alone_is_a_picture_with_its_own_sidecars() -> None:
    assert stacked(b"a.xmp", b"a.dng.xmp", b"a.mov", pictures=(b"a.dng",)) == {
        b"a.dng": {b"a.xmp", b"a.dng.xmp"}
    }
    assert stacked(b"a.dng", b"a.dng.xmp", pictures=()) == {}, "it is not read: nothing to stack"


def test_first_picture_of_a_stem_has_the_raw_and_the_film() -> None:
    pictures = (b"a.avif", b"a.png", b"a.heic", b"a.jpeg", b"a.CR2")
    assert stacked(b"a.MOV", pictures=pictures) == {b"a.jpeg": {b"a.CR2", b"a.MOV"}}
    assert stacked(b"a.mp4", pictures=pictures[:3]) == {b"a.heic": {b"a.mp4"}}
    assert stacked(b"a.mov", b"a.nef", pictures=(b"a.png", b"a.avif")) == {b"a.avif": {b"a.nef"}}


def test_sidecar_without_an_extension_belongs_to_every_picture_of_its_stem() -> None:
    both = stacked(b"a.xmp", pictures=(b"a.png", b"a.jpg", b"b.jpg"))
    assert both == {b"a.png": {b"a.xmp"}, b"a.jpg": {b"a.xmp"}}


def test_sidecar_of_a_raw_follows_it_to_its_picture() -> None:
    pictures = (b"a.jpg", b"a.png", b"a.cr2", b"a.dng")
    assert stacked(b"a.cr2.xmp", b"a.png.xmp", pictures=pictures) == {
        b"a.jpg": {b"a.cr2", b"a.dng", b"a.cr2.xmp"},
        b"a.png": {b"a.png.xmp"},
    }
    assert stacked(b"a.nef.xmp", pictures=(b"a.jpg",)) == {}, "its RAW is not there"


def test_second_version_of_darktable_belongs_to_none() -> None:
    assert stacked(b"a.CR2.xmp", b"a_01.CR2.xmp", pictures=(b"a.CR2",)) == {
        b"a.CR2": {b"a.CR2.xmp"}
    }


def test_exact_stem_comes_before_one_in_another_spelling() -> None:
    assert stacked(pictures=(b"a.jpg", b"A.jpg", b"A.CR2")) == {b"A.jpg": {b"A.CR2"}}
    assert stacked(b"IMG_1.XMP", pictures=(b"img_1.jpg", b"IMG_1.CR2")) == {
        b"img_1.jpg": {b"IMG_1.CR2", b"IMG_1.XMP"}
    }
    composed, decomposed = "é.jpg".encode(), "e\u0301.CR2".encode()
    assert stacked(pictures=(composed, decomposed)) == {composed: {decomposed}}


@pytest.mark.parametrize(
    "name", [b"IMG_1.AAE", b"a.txt", b"._IMG_1.CR2", b"PXL_1.MP", b"xmp", b"a.mpg", b"a.jpg"]
)
def test_other_files_accompany_nothing(name: bytes) -> None:
    assert not may_accompany(name)


def test_film_inside_a_picture_changes_nothing() -> None:
    assert stacked(pictures=(b"PXL_1.MP.jpg", b"PXL_2.jpg")) == {}


def test_own_sidecar_weighs_most() -> None:
    assert in_order_of_weight([b"x/a.JPG"], [b"x/a.jpg.xmp", b"x/a.cr2.xmp", b"x/a.xmp"]) == [
        *(b"x/a.xmp", b"x/a.cr2.xmp", b"x/a.jpg.xmp")
    ]


NAMES = st.lists(
    st.builds(
        lambda stem, suffix: (stem + suffix).encode(),
        st.sampled_from(["a", "A", "b", "é", "e\u0301", "a.CR2", "a_01"]),
        st.sampled_from([".jpg", ".JPG", ".heic", ".png", ".CR2", ".dng", ".mov", ".xmp", ""]),
    ),
    unique=True,
)


@given(NAMES, st.booleans(), st.randoms())
def test_whatever_the_names(names: list[bytes], reads_raws: bool, random: object) -> None:
    def is_picture(name: bytes) -> bool:
        extension = name.lower().rpartition(b".")[2]
        return extension in {b"jpg", b"heic", b"png"} or (
            reads_raws and extension in {b"cr2", b"dng"}
        )

    pictures = [name for name in names if is_picture(name)]
    others = [name for name in names if not is_picture(name) and may_accompany(name)]
    stacks = stacked_names(pictures, others)
    members = [member for found in stacks.values() for member in found]
    for main, found in stacks.items():
        assert main in pictures
        assert len(set(found)) == len(found)
    companions = {name for name, _ in members}
    assert not companions & set(stacks), "what belongs to a picture has nothing of its own"
    for kind in ("raw", "live-video"):
        of_kind = [name for name, its_kind in members if its_kind == kind]
        assert len(of_kind) == len(set(of_kind)), "one file, one picture"
    random.shuffle(pictures)  # type: ignore[attr-defined]
    random.shuffle(others)  # type: ignore[attr-defined]
    again = stacked_names(pictures, others)
    assert {main: set(found) for main, found in again.items()} == {
        main: set(found) for main, found in stacks.items()
    }
