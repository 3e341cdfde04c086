"""What is offered before a run of hours: real model folders, the bundled towers in them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from siglip_search import demo, open_library
from siglip_search.cli.index_listener import _tell_estimate
from siglip_search.engine import indexing
from siglip_search.engine.cheaper_choices import Choice, RunCost, cheaper_choices
from siglip_search.engine.chosen_model import all_installed, model_called
from siglip_search.engine.indexing import Estimate, IndexListener
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

HOUR = 3600.0


def install(name: str, *, checkpoint: str = "a checkpoint", languages: str = '["en"]') -> ModelSpec:
    """Install the bundled towers under another name."""
    folder = models_directory() / name
    shutil.copytree(demo.model_directory(), folder)
    toml = folder / "model.toml"
    lines = toml.read_text(encoding="utf-8").splitlines()
    stated = {"name": f'"{name}"', "checkpoint": f'"{checkpoint}"', "languages": languages}
    for number, line in enumerate(lines):
        key = line.partition(" = ")[0]
        if key in stated:
            lines[number] = f"{key} = {stated.pop(key)}"
    assert not stated
    toml.write_text("\n".join(lines), encoding="utf-8")
    return model_called(name)


def cost(hours: float, *, share_of_reading: float = 0.1, per_picture: float = 1000.0) -> RunCost:
    return RunCost(
        pictures=int(hours * 10_000),
        reading_seconds=share_of_reading * hours * HOUR,
        embedding_seconds=(1 - share_of_reading) * hours * HOUR,
        seconds_per_picture=per_picture,
    )


def by_command(choices: tuple[Choice, ...]) -> dict[str, Choice]:
    return {choice.how: choice for choice in choices}


def test_a_model_of_full_precision_can_be_quantised_or_exchanged_for_a_smaller_one() -> None:
    spec = install("siglip-base-patch16-384")
    offered = by_command(cheaper_choices(spec, cost(10), is_first=True))
    assert list(offered) == [
        "siglip-search model quantize siglip-base-patch16-384, then "
        "--model siglip-base-patch16-384-int8",
        "siglip-search model pull siglip-base-patch16-224, then --model siglip-base-patch16-224",
        "--newest 3000",
    ]
    seconds = [choice.seconds for choice in offered.values()]
    assert seconds == pytest.approx(
        [HOUR * (1 + 9 / 2.4), HOUR * (1 + 9 * 35 / 112), HOUR * 0.3], rel=1e-6
    )


def test_what_is_on_this_machine_is_timed() -> None:
    spec = install("siglip-base-patch16-384")
    install("siglip-base-patch16-384-int8")
    install("mine", checkpoint="another")
    offered = by_command(cheaper_choices(spec, cost(10), is_first=True))
    # Its towers take milliseconds, the chosen model is said to take 1,000 s: reading is left.
    same = offered["--model siglip-base-patch16-384-int8"]
    assert same.seconds == pytest.approx(HOUR, rel=0.01)
    assert same.remark == ""
    assert "less exact" in offered["--model mine"].remark
    assert not any("quantize" in how for how in offered)


def test_nothing_slower_and_nothing_that_understands_less() -> None:
    spec = install("siglip2-base-patch16-384", languages='["multilingual"]')
    install("english", checkpoint="another")
    install("as-slow", checkpoint="a third", languages='["multilingual"]')
    offered = by_command(cheaper_choices(spec, cost(10, per_picture=1e-6), is_first=True))
    assert [how.split()[0] for how in offered] == ["siglip-search", "--newest"]
    assert not any("pull" in how for how in offered)


def test_a_library_with_vectors_is_not_told_to_begin_anew() -> None:
    spec = install("siglip-base-patch16-384")
    install("mine", checkpoint="another")
    twin = install("twin")  # the same space
    assert twin.space_key == spec.space_key
    offered = by_command(cheaper_choices(spec, cost(10), is_first=False))
    assert list(offered) == ["--model twin", "--newest 3000"]


def test_a_model_that_nobody_knows_has_only_the_newest_left() -> None:
    spec = install("my-own")
    int8 = replace(spec, vision=replace(spec.vision, precision="int8"))
    offered = cheaper_choices(int8, cost(2), all_installed(), is_first=True)
    assert [choice.how for choice in offered] == ["--newest 3000"]


def test_an_hour_is_told_with_its_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "DECODE_SECONDS_PER_BYTE", 1.0)  # a very slow machine
    told: list[Estimate] = []
    folder = demo.gallery_directory() / "snow"
    with open_library(tmp_path / "library", model="demo") as library:
        report = library.index(
            [folder],
            options=replace(library.index_options(), newest=2),
            listener=IndexListener(on_estimate=told.append),
        )
    assert report.pending == len(list(folder.iterdir())) - 2
    (estimate,) = told
    assert estimate.pictures == report.embedded == 2
    assert estimate.seconds > HOUR
    assert [choice.how for choice in estimate.choices] in ([], ["--newest 1"])


def test_the_choices_are_told_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    spec = install("siglip-base-patch16-384")
    choices = cheaper_choices(spec, cost(8), is_first=True)
    _tell_estimate(Estimate(80_000, 8 * HOUR, choices=choices))
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines() == [
        "80,000 pictures to read, about 8 h 0 min; Ctrl-C stops, and the next run goes on",
        "The newest come first, and are found while it runs. Quicker would be:",
        "  siglip-search model quantize siglip-base-patch16-384, then "
        "--model siglip-base-patch16-384-int8: about 3 h 48 min",
        "  siglip-search model pull siglip-base-patch16-224, then "
        "--model siglip-base-patch16-224: about 3 h 3 min (less exact)",
        "  --newest 3000: about 18 min (the others with the next run)",
    ]
