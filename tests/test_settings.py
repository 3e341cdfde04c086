"""The settings file below the environment; what has no meaning is refused with a hint."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from siglip_search.errors import SettingsError
from siglip_search.ingest.pace import ON_BATTERY
from siglip_search.settings import load_settings, settings_file

if TYPE_CHECKING:
    from pathlib import Path


def write(text: str) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text(text, encoding="utf-8")


def test_no_file_gives_the_defaults() -> None:
    settings = load_settings({})
    assert settings.model is None
    assert settings.library.name == "library"


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    write('model = "a"\nlibrary = "/from/file"\njobs = 3\nexclude = ["*.tmp"]\n')
    settings = load_settings({"SIGLIP_SEARCH_LIBRARY": str(tmp_path), "SIGLIP_SEARCH_MODEL": "b"})
    assert settings.library == tmp_path
    assert settings.model == "b"
    assert settings.jobs == 3
    assert settings.exclude == ("*.tmp",)


def test_on_battery_is_slow_unless_the_file_says_otherwise() -> None:
    assert load_settings({}).on_battery == "slow"
    write('on_battery = "pause"\n')
    assert load_settings({}).on_battery == "pause"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour = 1", "no setting called 'colour'"),
        ("jobs = 0", "jobs = 0 is not a whole number above 0"),
        ("jobs = true", "jobs = True is not a whole number above 0"),
        ('on_battery = "stop"', "is not one of pause, slow, run"),
        ('exclude = "*.tmp"', "is not a list of patterns"),
        ("jobs = ", "cannot read the settings file"),
    ],
)
def test_nonsense_is_refused_by_name(text: str, complaint: str) -> None:
    write(text)
    with pytest.raises(SettingsError, match=complaint.replace("*", r"\*")) as caught:
        load_settings({})
    assert caught.value.hint


def test_every_way_to_run_on_battery_can_be_set() -> None:
    for choice in ON_BATTERY:
        write(f'on_battery = "{choice}"')
        assert load_settings({}).on_battery == choice


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become an unknown user"
)
def test_process_of_an_unknown_user_without_a_home_gets_one_line() -> None:
    as_unknown = (
        "import os; from siglip_search.errors import SettingsError\n"
        "from siglip_search.settings import data_directory, settings_file\n"
        "os.setuid(54321)\n"
        "for place in (data_directory, settings_file):\n"
        "    try: place()\n"
        "    except SettingsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", as_unknown], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["the home directory is not known"] * 2
