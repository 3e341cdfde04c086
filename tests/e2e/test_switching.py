"""`model use`, `model remove`, and what `status` says meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine


@pytest.fixture
def tiny(cli: CommandLine, tiny_model: Path) -> str:
    cli("model", "add", "--replace", tiny_model)
    return "random-tiny"


def test_library_changes_its_model_and_back(cli: CommandLine, pictures: Path, tiny: str) -> None:
    cli.index(pictures)
    chosen = cli("model", "use", tiny)
    assert "12 pictures of 12 to be embedded with random-tiny" in chosen.stderr
    assert "demo answers until then" in chosen.stderr
    status = cli.status()
    assert (status["model"], status["switching_to"]) == ("demo", tiny)
    assert "switching to random-tiny" in cli("status").text
    cli("query", "--min-probability", "0", "dog")
    done = cli("index")
    assert "switching to random-tiny: 12 pictures to embed again" in done.stderr
    assert "random-tiny answers from now on" in done.text
    status = cli.status()
    assert (status["model"], status["switching_to"]) == (tiny, None)
    assert {space["model"]: space["vectors"] for space in status["spaces"]} == {
        "demo": 12,
        tiny: 12,
    }
    cli("query", "--min-probability", "0", "dog")
    refused = cli("query", "--model", "demo", "dog", expect=2)
    assert "siglip-search model use demo" in refused.stderr
    refused = cli("model", "remove", tiny, expect=2)
    assert "model use" in refused.stderr
    assert cli("model", "use", "demo").stderr == "demo answers\n"
    assert cli("model", "remove", tiny).stderr == "removed random-tiny and 12 vectors\n"
    cli.verify()
    assert cli("model", "use", tiny, expect=2).stderr.startswith(
        "siglip-search: no model called 'random-tiny'"
    )


def test_pictures_that_are_away_are_left_out_when_asked(
    cli: CommandLine, pictures: Path, tiny: str
) -> None:
    cli.index(pictures)
    pictures.rename(pictures.with_name("away"))
    cli("model", "use", tiny)
    report = cli("index", "--json").json
    assert (report["model"], report["switching_to"], report["left_to_switch"]) == ("demo", tiny, 12)
    assert "--now" in report["warnings"][-1]
    now = cli("model", "use", "--now", tiny)
    assert "12 pictures of 12 cannot be found until" in now.stderr
    assert cli("query", "--min-probability", "0", "dog", expect=1).text == ""


def test_vectors_of_the_bundled_model_can_be_removed(
    cli: CommandLine, pictures: Path, tiny: str
) -> None:
    cli.index(pictures)
    cli("model", "use", tiny)
    cli("index")
    assert cli("model", "remove", "demo").stderr == "removed demo and 12 vectors\n"
    assert "part of the program" in cli("model", "remove", "demo", expect=2).stderr
    cli.verify()


def test_model_is_deleted_though_it_answers_when_forced(
    cli: CommandLine, pictures: Path, tiny: str
) -> None:
    cli("model", "use", tiny)
    cli("index", pictures)
    assert cli("model", "remove", "--force", tiny).stderr == "removed random-tiny\n"
    assert "random-tiny" in cli("query", "dog", expect=2).stderr
    assert cli.status()["pictures"] == 12
