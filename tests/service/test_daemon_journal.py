"""The daemon's log: readable, bounded, and never in the way."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from siglip_search.errors import PathError
from siglip_search.service.journal import LOG_FILES, Journal
from siglip_search.settings import log_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


def test_people_read_a_line_and_programs_an_object(library: Path) -> None:
    for json_lines in (False, True):
        stream = io.StringIO()
        with Journal(library, json_lines=json_lines, stream=stream) as journal:
            journal.info("2 added", added=2, path=b"/p/\xff.jpg")
            journal.warning("one\nline \x1b[31monly")
            journal.debug("not this")
        lines = stream.getvalue().splitlines()
        assert len(lines) == 2
        if json_lines:
            first, second = map(json.loads, lines)
            assert (first["message"], first["added"], first["level"]) == ("2 added", 2, "info")
            assert os.fsencode(first["path"]) == b"/p/\xff.jpg"
            assert second["message"] == "one\nline \x1b[31monly"
        else:
            assert lines[0].endswith(" 2 added")
            assert lines[1].endswith(r"warning: one\nline \x1b[31monly")


def test_the_file_has_what_a_quiet_stderr_leaves_out(library: Path) -> None:
    stream = io.StringIO()
    with Journal(library, level=logging.WARNING, stream=stream) as journal:
        journal.info("done")
        logging.getLogger("siglip_index.anything").warning("of another part")
    assert "done" not in stream.getvalue()
    assert "of another part" in stream.getvalue()
    assert [line[20:] for line in log_file(library).read_text().splitlines()] == [
        "done",
        "warning: of another part",
    ]


def test_the_files_stay_small(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siglip_search.service.journal.LOG_FILE_BYTES", 1000)
    with Journal(library, stream=io.StringIO()) as journal:
        for number in range(500):
            journal.info(f"line {number}")
    files = list(log_file(library).parent.iterdir())
    assert len(files) == LOG_FILES
    assert all(file.stat().st_size <= 1000 for file in files)
    assert "line 499" in log_file(library).read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full stands for a full disk")
def test_a_full_disk_and_a_reader_that_left_stop_nothing(library: Path) -> None:
    log_file(library).parent.mkdir()
    log_file(library).symlink_to("/dev/full")
    with open("/dev/full", "w") as stream, Journal(library, stream=stream) as journal:
        for _ in range(3):
            journal.info("x" * 100_000)
        log_file(library).unlink()
        journal.info("room again")
        # What the stream still holds cannot be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    assert "room again" in log_file(library).read_text()


def test_a_deleted_library_is_not_brought_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "gone", stream=io.StringIO()) as journal:
        journal.info("nothing")
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="which deletes no file that is open")
def test_a_file_that_was_deleted_is_made_anew(library: Path) -> None:
    with Journal(library, stream=io.StringIO()) as journal:
        journal.info("first")
        log_file(library).unlink()
        log_file(library).parent.rmdir()
        journal.info("second")
        assert log_file(library).read_text().endswith(" second\n")


def test_what_ends_the_program_is_in_the_file(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError), Journal(library):
        _ = 1 / 0
    with pytest.raises(PathError), Journal(library):
        raise PathError("no such folder")
    text = log_file(library).read_text()
    assert "ZeroDivisionError: division by zero" in text
    assert "Traceback" in text
    assert text.rstrip().endswith("error: no such folder")
    assert capsys.readouterr().err == ""  # whoever catches it tells the people


def test_systemd_is_told_the_urgency(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    with Journal(library) as journal:
        journal.info("good")
        journal.warning("odd")
    assert capsys.readouterr().err.splitlines() == ["<6>good", "<4>warning: odd"]
    assert sys.stderr is not None
