"""A library that is followed: run after run, with a tower that stays open."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from siglip_index import open_store
from siglip_search.engine.following import Follower
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import DeviceError
from siglip_search.photos.settling import Look
from siglip_search.settings import load_settings
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search.ingest.report import IngestReport


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(folder / "first.png", 10)
    return folder


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    settings = replace(load_settings(), library=tmp_path / "library", on_battery="run")
    with Follower(settings, model="demo") as follower:
        yield follower


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[VisionTower]:
    """Every picture tower that is opened."""
    towers: list[VisionTower] = []
    real = VisionTower.__init__

    def noted(tower: VisionTower, *args: object, **kwargs: object) -> None:
        real(tower, *args, **kwargs)  # type: ignore[arg-type]
        towers.append(tower)

    monkeypatch.setattr(VisionTower, "__init__", noted)
    return towers


def picture(path: Path, red: int) -> None:
    Image.new("RGB", (40, 30), (red, 90, 200)).save(path)


def index(follower: Follower, *paths: Path) -> IngestReport:
    return follower.index(paths, stop=threading.Event(), listener=IndexListener())


def look(follower: Follower, *paths: Path) -> IngestReport:
    looks = [Look(os.fsencode(path), subfolders=False) for path in paths]
    return follower.look(looks, stop=threading.Event(), listener=IndexListener())


def test_tower_is_opened_once_for_many_runs_and_again_after_it_was_let_go(
    follower: Follower, folder: Path, opened: list[VisionTower]
) -> None:
    assert follower.roots() == []
    assert look(follower, folder).seen == 0  # nothing is indexed yet, and nothing made
    assert index(follower, os.fsencode(folder)).embedded == 1  # type: ignore[arg-type]
    for number in range(3):
        picture(folder / f"{number}.png", 50 * number)
        assert look(follower, folder / f"{number}.png").embedded == 1
    assert len(opened) == 1
    assert follower.is_warm
    follower.unload()
    assert not follower.is_warm
    picture(folder / "last.png", 222)
    assert look(follower, folder).embedded == 1
    assert len(opened) == 2


def test_tower_that_failed_is_opened_anew(
    follower: Follower,
    folder: Path,
    opened: list[VisionTower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index(follower, folder)

    def fail(*_: object) -> None:
        raise DeviceError("gone", hint="wait")

    picture(folder / "second.png", 99)
    with monkeypatch.context() as patch:
        patch.setattr(VisionTower, "embed_with_provenance", fail)
        with pytest.raises(DeviceError, match="gone"):
            look(follower, folder)
    assert not follower.is_warm
    assert look(follower, folder).embedded == 1
    assert len(opened) == 2


def test_others_may_write_between_two_runs(
    follower: Follower, folder: Path, tmp_path: Path
) -> None:
    index(follower, folder)
    with open_store(tmp_path / "library", writable=True) as store, store.write() as writer:
        writer.set_root_exclude(store.roots()[0].id, ["*.gif"])
    assert follower.roots()[0].exclude == ("*.gif",)
    (folder / "first.png").unlink()
    picture(folder / "other.png", 5)
    report = look(follower, folder)
    assert (report.removed, report.added, report.embedded) == (1, 1, 1)
    assert follower.write_snapshot() in (0, 1)
    assert follower.write_snapshot() == 0
