"""`siglip-search doctor`, in a process of its own."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from installed_command import CommandLine

from siglip_search import demo
from siglip_search.service.endpoint import Endpoint
from siglip_search.service.state import ServiceState
from siglip_search.settings import settings_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "library")


def test_this_machine_with_a_library(command: CommandLine, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for picture in sorted(demo.gallery_directory().glob("*/*.webp"))[:3]:
        (pictures / picture.name).write_bytes(picture.read_bytes())
    command.index(pictures)
    done = command("doctor", "--json", expect=None)
    found = done.json
    assert done.status == (1 if found["bad"] else 0)
    assert done.stderr == ""
    assert found["library"] == str(command.library)
    verdicts = [one["verdict"] for one in found["findings"]]
    assert {name: verdicts.count(name) for name in ("bad", "note", "good")} == {
        name: found[name] for name in ("bad", "note", "good")
    }
    by_name = {one["name"]: one for one in found["findings"]}
    assert set(by_name["library"]) == {"section", "name", "verdict", "what", "remedy"}
    assert by_name["library"]["what"].startswith("3 pictures")
    for name in ("library", "the library's model", str(pictures), "watcher", "model demo"):
        assert by_name[name]["verdict"] == "good", by_name[name]


def test_people_see_what_is_wrong_and_what_to_do(command: CommandLine) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("jobs = 0\n")
    done = command("doctor", expect=1)
    assert "places\n  bad   settings: " in done.text
    assert "\n        Write for example: jobs = 2\n" in done.text
    assert "good  settings" not in done.text
    assert "\x1b" not in done.text
    assert " bad, " in done.text.splitlines()[-1]
    everything = command("doctor", "--all", expect=1).text
    assert "  good  SQLite: " in everything
    assert len(everything.splitlines()) > len(done.text.splitlines())


def test_a_library_may_be_named_before_or_after_the_command(
    command: CommandLine, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert command("doctor", "--library", other, "--json", expect=None).json["library"] == str(
        other
    )
    assert command("--library", other, "doctor", "--json", expect=None).json["library"] == str(
        other
    )


def test_remedies_name_the_library_that_was_examined(tmp_path: Path) -> None:
    library = tmp_path / "my library"
    plain = CommandLine(library)("doctor", "--json", expect=None).json
    remedies = {one["name"]: one["remedy"] for one in plain["findings"]}
    assert remedies["library"] == "siglip-search index ~/Pictures"
    named = CommandLine(tmp_path / "other")("--library", library, "doctor", "--json", expect=None)
    remedies = {one["name"]: one["remedy"] for one in named.json["findings"]}
    assert remedies["library"] == f"siglip-search --library '{library}' index ~/Pictures"


class PausedDaemon:
    """A daemon that has nothing to do but to say so."""

    def state(self) -> ServiceState:
        return ServiceState(
            pid=os.getpid(), version="1", started_at=time.time(), library="", model=None,
            device=None, precision=None, doing="paused", why="the disk is nearly full", queue=0,
            done=0, total=0, pictures_per_second=None, seconds_left=None, last_event_at=None,
            last_commit_at=None, embedded=0, failed=0, looks=0, folders=(), last_warnings=(),
            queries=0, towers_warm=False, memory_bytes=None,
        )  # fmt: skip

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"the doctor asks for {name}")


def test_a_running_watcher_and_what_it_waits_for(command: CommandLine) -> None:
    endpoint = Endpoint(command.library, PausedDaemon())  # type: ignore[arg-type]
    endpoint.start()
    try:
        found = command("doctor", "--json", expect=None).json
    finally:
        endpoint.close()
    (watcher,) = (one for one in found["findings"] if one["name"] == "watcher")
    assert watcher["verdict"] == "note"
    assert watcher["what"].startswith(f"process {os.getpid()}, version ")
    assert watcher["what"].endswith(", paused: the disk is nearly full")
