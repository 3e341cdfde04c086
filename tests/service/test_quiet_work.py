"""What the daemon does when nothing else is to be done, with a real library and a real album."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import pytest

from siglip_search import demo, open_library
from siglip_search.engine.album_folder import make_album
from siglip_search.engine.following import Follower
from siglip_search.photos.settling import Settling
from siglip_search.search.question import Question
from siglip_search.search.saved import SavedSearch
from siglip_search.service import quiet_work
from siglip_search.service.activity import Activity
from siglip_search.service.journal import Journal
from siglip_search.service.quiet_work import QuietWork
from siglip_search.service.resident_search import ResidentSearch
from siglip_search.service.runs import Runs
from siglip_search.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(NamedTuple):
    """The quiet work and what it reports to."""

    work: QuietWork
    runs: Runs
    lines: StringIO

    def turn(self, stop: threading.Event | None = None) -> str:
        before = len(self.lines.getvalue())
        self.work.turn(stop or threading.Event())
        return self.lines.getvalue()[before:]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    return tmp_path / "drive" / "album"


@pytest.fixture
def quiet(tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quiet]:
    monkeypatch.setattr(quiet_work, "QUIET_SECONDS", 0.0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted(demo.gallery_directory().rglob("*.jpg"))[:3]:
        shutil.copy(path, pictures)
    settings = replace(load_settings(), library=tmp_path / "library", model="demo")
    with open_library(settings.library, model="demo") as library:
        library.index([pictures])
        question = Question("a drawing", min_probability=0.0)
        library.saved_searches().save(SavedSearch("all", question, album=str(album)))
    make_album(album)
    lines, activity = StringIO(), Activity(settings.library)
    with Follower(settings) as follower, Journal(settings.library, stream=lines) as journal:
        runs = Runs(Settling(), activity, journal)
        search = ResidentSearch(settings)
        yield Quiet(
            QuietWork(follower, search, runs, activity, journal, unload_after_seconds=600.0),
            runs,
            lines,
        )
        search.start_afresh()


def test_albums_are_filled_at_the_start_and_with_news_only(quiet: Quiet) -> None:
    assert "3 new, 0 gone" in quiet.turn()
    assert quiet.turn() == ""
    quiet.runs.has_news = True
    assert quiet.turn() == ""
    assert not quiet.runs.has_news


def test_an_album_that_is_away_is_told_once_and_filled_when_it_is_back(
    quiet: Quiet, album: Path
) -> None:
    away = album.parent.with_name("away")
    album.parent.rename(away)
    said = quiet.turn()
    assert "the album of 'all' was not brought up to date" in said
    quiet.work.albums_may_change()
    assert quiet.turn() == ""
    assert not album.parent.exists()
    away.rename(album.parent)
    assert quiet.turn() == ""  # nobody has noticed yet
    quiet.work.albums_may_change()
    assert "3 new, 0 gone" in quiet.turn()


def test_whoever_waits_interrupts_it_and_the_rest_is_done_later(quiet: Quiet) -> None:
    stop = threading.Event()
    stop.set()
    assert quiet.turn(stop) == ""
    assert "3 new, 0 gone" in quiet.turn()
