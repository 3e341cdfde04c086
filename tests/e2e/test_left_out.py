"""What `index` leaves out, and how it and `status` say so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from siglip_search.cli.index_summary import print_summary
from siglip_search.ingest.report import IngestReport

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from installed_command import CommandLine


def test_explain_names_the_rule_and_tells_by_its_exit_code(
    cli: CommandLine, pictures: Path
) -> None:
    (pictures / "@eaDir").mkdir()
    thumbnail = pictures / "@eaDir" / "thumb.jpg"
    shutil.copy(pictures / "picture-00.jpg", thumbnail)
    # No library and no model are needed to ask.
    asked = cli("index", "--dry-run", "--explain", thumbnail, pictures, expect=1)
    assert asked.text.splitlines() == [
        f"{thumbnail}: left out",
        f"  because of {pictures / '@eaDir'}",
        "  thumbnails of a Synology NAS; --exclude '!@eaDir/' takes it back in",
    ]
    found = cli("index", "--explain", thumbnail, pictures, "--json", expect=1).json
    assert (found["taken"], found["rule"], found["pattern"]) == (False, "default", "@eaDir/")
    taken = cli("index", "--explain", thumbnail, "--exclude", "!@eaDir/", pictures)
    assert "taken" in taken.text
    folder = cli("index", "--explain", pictures, pictures)
    assert "12 files to be read and added" in folder.text
    assert not cli.library.exists()


def test_placeholders_are_counted_by_index_and_status(cli: CommandLine, pictures: Path) -> None:
    (pictures / "there.jpg.nextcloud").write_bytes(b" ")
    (pictures / ".too.heic.icloud").write_bytes(b" ")
    assert cli.index(pictures)["online_only"] == 2
    assert cli.status()["online_only"] == 2
    assert "2 files only in the cloud" in cli("index").text
    assert "cloud     2 files only there" in cli("status").text


def test_summary_tells_how_to_read_what_was_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(IngestReport(ignored=15, missing_extras={"raw": 11, "jxl": 1}, seconds=1.0))
    lines = capsys.readouterr().out.splitlines()
    assert "3 files ignored (no pictures)" in lines
    line = '12 pictures ignored for want of an extra: pip install "siglip-search[jxl,raw]"'
    assert line in lines
