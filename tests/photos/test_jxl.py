from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from photos import photo_preparers as preparers
from photos.drawn_pictures import STORED_AS, difference, encoded, quarters
from PIL import ExifTags, Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.jxl import register_jxl, stated_size

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pillow_jxl", reason="needs the extra jxl")
register_jxl()


def with_orientation(jxl: bytes, orientation: int) -> io.BytesIO:
    """Write another orientation into the header of a bare codestream (ISO/IEC 18181-1, annex D).

    The file must have the shortest header there is: a small size with a common ratio, and
    everything else by default.
    """
    bits = int.from_bytes(jxl[2:4], "little")
    assert jxl[:2] == b"\xff\x0a"
    assert bits & 1, "a small size"
    assert (bits >> 6) & 7, "a common ratio"
    assert (bits >> 9) & 1, "everything by default"
    fields = [
        *(0, 1),  # not all by default; extra fields follow
        *((orientation - 1) >> n & 1 for n in range(3)),
        *(0, 0, 0),  # no other size, no preview, no animation
        *(0, 0, 0, 1),  # 8-bit integers; 16 bits suffice to decode
        *(0, 0, 1),  # no extra channels; XYB
        *(1, 1, 0, 0, 1),  # colours, tone mapping, extensions, transform: by default
    ]
    header = bits & 0x1FF | sum(bit << (9 + n) for n, bit in enumerate(fields))
    length = (9 + len(fields) + 7) // 8
    return io.BytesIO(jxl[:2] + header.to_bytes(length, "little") + jxl[4:])


def image_of(file: io.BytesIO) -> Image.Image:
    return decode(file, limits=DecodeLimits()).image


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"use_container": True}])
@pytest.mark.parametrize("size", [(96, 64), (100, 37), (1, 1), (1000, 3), (300, 9000)])
def test_size_is_known_before_decoding(options: dict[str, bool], size: tuple[int, int]) -> None:
    file = encoded(quarters(*size), "JXL", **options)
    assert stated_size(file) == size
    found = decode(file, limits=DecodeLimits())
    assert found.image.size == size
    assert found.facts.format == "JXL"
    assert difference(found.image, quarters(*size)) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(orientation: int) -> None:
    turn = STORED_AS[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    plain = encoded(stored, "JXL")
    if orientation > 4:
        # No common ratio: the lying picture in the standing one's place.
        stored = quarters(64, 96).transpose(turn)
        plain = encoded(stored, "JXL")
    upright = quarters() if orientation <= 4 else quarters(64, 96)
    found = decode(with_orientation(plain.getvalue(), orientation), limits=DecodeLimits())
    assert (found.facts.width, found.facts.height) == upright.size
    assert difference(found.image, upright) < 8


def test_orientation_of_the_exif_data_is_left_out_as_the_standard_says() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Drawn"
    found = decode(encoded(quarters(), "JXL", exif=exif.tobytes()), limits=DecodeLimits())
    assert difference(found.image, quarters()) < 8
    assert found.facts.camera == "Drawn"


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_that_was_packed_losslessly_is_turned_as_the_jpeg(
    orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turn = STORED_AS[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as jpeg:
        file = encoded(jpeg, "JXL", lossless_jpeg=True)
    assert difference(image_of(file), quarters()) < 8


def test_colours_are_those_that_the_plugin_states() -> None:
    picture = quarters().point(lambda value: 60 + value // 2)
    assert difference(image_of(encoded(picture, "JXL")), picture) < 8


def test_limit_of_pixels_is_kept_before_decoding() -> None:
    file = encoded(quarters(100, 100), "JXL")
    with pytest.raises(UnreadablePictureError, match="100 x 100 pixels is more than the limit"):
        decode(file, limits=DecodeLimits(max_pixels=9_999))


def test_damaged_files_end_in_a_picture_or_a_reason() -> None:
    random = np.random.default_rng(2)
    whole = encoded(quarters(), "JXL", use_container=True).getvalue()
    for _ in range(100):
        content = bytearray(whole[: random.integers(2, len(whole) + 1)])
        content[random.integers(0, len(content))] ^= 1 << random.integers(0, 8)
        try:
            outcome = image_of(io.BytesIO(bytes(content))).mode
        except UnreadablePictureError as error:
            outcome = str(error)
        assert outcome.isprintable()
        assert "build" not in outcome


def test_workers_read_it_within_their_limit_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(encoded(quarters(640, 480), "JXL").getvalue())
    limits = DecodeLimits(max_memory_bytes=512 * 1024**2)
    with DecodePool(preparers.nothing, workers=1, limits=limits, min_side=64) as pool:
        found = pool.decode(str(path).encode()).result()
    assert (found.facts.width, found.facts.height) == (640, 480)
