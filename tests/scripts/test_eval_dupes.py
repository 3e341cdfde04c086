"""The evaluation of `dupes` counts what it says it counts, on material that is what it says."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops

from siglip_search import demo

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = ("IMG_0685.jpg", "DSC00092.jpg", "P0002695.jpg")


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("eval_dupes"), importlib.import_module("duplicate_material")
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    found = []
    for name in NAMES:
        (path,) = demo.gallery_directory().rglob(name)
        with Image.open(path) as image:
            found.append(image.convert("RGB"))
    return found


@pytest.mark.slow
def test_pairs_that_belong_together_and_strangers_are_counted(
    scripts: tuple[ModuleType, ModuleType], drawings: list[Image.Image], tmp_path: Path
) -> None:
    evaluation, material = scripts
    smaller = material.EDITS["resized to a half"]
    turned = material.EDITS["turned by 90 degrees"]
    pictures = {
        **{f"original-{number}": image for number, image in enumerate(drawings)},
        "small-0": smaller(drawings[0]),
        "turned-1": turned(drawings[1]),
        # Said to be an edit of another one: found to be a stranger's.
        "wrong-2": smaller(drawings[1]),
    }
    indexed = evaluation.Indexed(tmp_path, pictures, "demo")
    try:
        row = evaluation.measured(indexed, "sizes", [("original-0", "small-0")])
        assert (row.pairs, row.usual, row.thorough, row.strangers) == (1, 1, 1, 0)
        row = evaluation.measured(indexed, "turns", [("original-1", "turned-1")])
        assert (row.pairs, row.thorough, row.strangers) == (1, 1, 0)
        mixed = [("original-1", "original-0"), ("original-2", "wrong-2")]
        row = evaluation.measured(indexed, "mixed", mixed)
        assert (row.pairs, row.usual, row.thorough, row.strangers) == (2, 0, 0, 1)
    finally:
        indexed.close()
    evaluation.write_csv(tmp_path / "rows.csv", [("gallery", "edit", row)])
    with (tmp_path / "rows.csv").open(newline="") as file:
        ((first,), *_) = [list(csv.DictReader(file))]
    assert first["kind"] == "mixed"
    assert first["strangers"] == "1"


def test_only_pictures_that_show_something_are_originals(
    scripts: tuple[ModuleType, ModuleType], drawings: list[Image.Image], tmp_path: Path
) -> None:
    evaluation, _ = scripts
    drawings[0].save(tmp_path / "good.jpg")
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    drawings[0].resize((100, 100)).save(tmp_path / "tiny.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert [name for name, _ in evaluation.originals(tmp_path, 10)] == ["good.jpg"]


def test_material_is_the_same_each_time_and_look_alikes_differ(
    scripts: tuple[ModuleType, ModuleType], drawings: list[Image.Image]
) -> None:
    _, material = scripts
    kinds = set()
    for (kind, one, other), (_, again, _) in zip(
        material.look_alikes(drawings[:1], screens=2),
        material.look_alikes(drawings[:1], screens=2),
        strict=True,
    ):
        kinds.add(kind)
        assert one.tobytes() == again.tobytes()
        same_size = other.resize(one.size)
        assert ImageChops.difference(one, same_size).getbbox() is not None
    assert len(kinds) == 9
    for name, edit in material.EDITS.items():
        assert edit(drawings[0]).mode == "RGB", name
