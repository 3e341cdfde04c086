"""Names that tell a time, and names that only look as if they did."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import PhotoFacts
from siglip_search.photos.file_name_dates import date_of_name, dated_by_name

NOW = datetime(2026, 6, 1, 12, 0, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_20240131_235959.jpg", "2024-01-31T23:59:59"),
        # Pixel's names are in UTC.
        ("PXL_20230704_123456789.jpg", "2023-07-04T12:34:56.789+00:00"),
        ("PXL_20230704_123456789.PORTRAIT-01.COVER.jpg", "2023-07-04T12:34:56.789+00:00"),
        ("2024-01-31T23-59-59.123Z.jpg", "2024-01-31T23:59:59.123+00:00"),
        ("20240131_235959.heic", "2024-01-31T23:59:59"),
        ("20240131_235959(0).jpg", "2024-01-31T23:59:59"),
        ("VID20240131235959.mp4", "2024-01-31T23:59:59"),
        ("2019-05-03 12.30.45.jpg", "2019-05-03T12:30:45"),
        ("2019-05-03 12.30.45-1.jpg", "2019-05-03T12:30:45"),
        ("2019-05-03T12:30:45.jpg", "2019-05-03T12:30:45"),
        ("Screenshot_2021-03-04-05-06-07.png", "2021-03-04T05:06:07"),
        ("Screenshot_2021-03-04-05-06-07-123_com.app.png", "2021-03-04T05:06:07"),
        ("Screenshot 2021-03-04 at 05.06.07.png", "2021-03-04T05:06:07"),
        ("Screenshot 2021-03-04 at 9.06.07 PM.png", "2021-03-04T21:06:07"),
        ("Screenshot 2021-03-04 at 10.06.07\u202fPM (2).png", "2021-03-04T22:06:07"),
        ("WhatsApp Image 2021-03-04 at 12.06.07 AM.jpeg", "2021-03-04T00:06:07"),
        ("Screenshot_20210304-050607.png", "2021-03-04T05:06:07"),
        ("signal-2022-01-02-030405.jpg", "2022-01-02T03:04:05"),
        ("signal-2022-01-02-03-04-05-678.jpg", "2022-01-02T03:04:05"),
        ("WhatsApp Image 2020-01-02 at 03.04.05.jpeg", "2020-01-02T03:04:05"),
        ("IMG-20200101-WA0001.jpg", "2020-01-01"),
        ("2020-01-01.jpg", "2020-01-01"),
        ("2020-01-01 birthday.jpg", "2020-01-01"),
        ("/photos/2019-01-01 12.00.00/party.jpg", None),
        ("12345678.jpg", None),
        ("20200101.jpg", None),
        ("IMG_1234.JPG", None),
        ("DSC20200.jpg", None),
        ("IMG_20241331_235959.jpg", None),
        ("IMG_20230229_120000.jpg", None),
        ("IMG_20240131_245959.jpg", None),
        ("IMG_20270131_235959.jpg", None),
        ("19011231_235959.jpg", None),
        ("0a20240131_2359591b.jpg", None),
        ("a120240131235959.jpg", None),
        ("9f20240131235959ab77c0.jpg", None),
        ("1234567890123.jpg", "2009-02-13"),
        ("9999999999999.jpg", None),
        ("0000000000001.jpg", None),
        ("12345678901234.jpg", None),
        ("2020-01-01-extra-02.jpg", "2020-01-01"),
        ("1-2020-01-02-3.jpg", None),
        ("", None),
    ],
)
def test_date_of_name(name: str, expected: str | None) -> None:
    found = date_of_name(name, now=NOW)
    if name.startswith("1234567890123."):
        # The clock of this machine: its time zone may be any.
        assert found is not None
        assert found[:8] == "2009-02-"
    else:
        assert found == expected
    assert date_of_name(name.encode(), now=NOW) == found


def test_name_dates_only_what_has_no_date() -> None:
    bare = PhotoFacts(1, 1, "PNG")
    dated = dated_by_name(bare, b"trip/IMG_20240131_235959.png")
    assert (dated.taken_at, dated.taken_source) == ("2024-01-31T23:59:59", "file-name")
    assert dated_by_name(bare, b"trip/holiday.png") == bare
    of_exif = PhotoFacts(1, 1, "JPEG", taken_at="2001-01-01T00:00:00", taken_source="exif")
    assert dated_by_name(of_exif, b"IMG_20240131_235959.jpg") == of_exif


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[0-9_\-. ]{8,40}", fullmatch=True)))
def test_any_name_gives_a_plausible_date_or_none(name: str) -> None:
    found = date_of_name(name, now=NOW)
    if found is not None:
        assert datetime(1990, 1, 1) <= datetime.fromisoformat(found)
        assert found[:19] <= "2026-06-02T12:00:00"


@given(st.binary(max_size=60))
def test_any_bytes_are_no_error(name: bytes) -> None:
    date_of_name(name)
