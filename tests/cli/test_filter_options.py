"""The options for conditions, in a command of their own."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import click
import pytest

from siglip_index.records import Where
from siglip_search.cli.filter_options import Filter, chosen_filter, filter_options, typed_times
from siglip_search.errors import PathError, QueryError


def chosen(*arguments: str) -> Filter:
    """Return what a command with these options is told to search."""

    @click.command()
    @filter_options
    @click.pass_context
    def command(context: click.Context) -> Filter:
        return chosen_filter(context)

    found = command.main(list(arguments), standalone_mode=False)
    assert isinstance(found, Filter)
    return found


def test_nothing_is_asked() -> None:
    assert chosen() == Filter()
    assert chosen().is_empty
    assert chosen().where.is_empty


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--after", "2024", "--before", "2024-06-03 14:00"], {"taken_from": "2024"}),
        (["--near", "-48.85,2.35"], {"near": (-48.85, 2.35, 1000.0)}),
        (["--near", "48.85,2.35", "--within", "5km"], {"near": (48.85, 2.35, 5000.0)}),
        (["--camera", "canon", "--camera", "Nikon"], {"cameras": ("canon", "Nikon")}),
        (["--lens", "50mm"], {"lenses": ("50mm",)}),
        (["--under", "/a", "--under", "/b"], {"under": (b"/a", b"/b")}),
        (["--type", "png,heic", "--type", "PNG"], {"formats": ("PNG", "HEIF")}),
        (["--portrait"], {"orientation": "portrait"}),
        (["--landscape"], {"orientation": "landscape"}),
        (["--square"], {"orientation": "square"}),
        (["--min-size", "20x10"], {"min_width": 20, "min_height": 10}),
        (["--min-size", "12MP"], {"min_pixels": 12_000_000}),
        (["--has-gps"], {"has_gps": True}),
        (["--no-gps"], {"has_gps": False}),
        (["--min-rating", "4"], {"min_rating": 4}),
        (["--keyword", "sea", "--keyword", "dog"], {"keywords": ("sea", "dog")}),
        (["--tag", "sea", "--tag", "dog"], {"tags": ("sea", "dog")}),
    ],
)
def test_each_option(arguments: list[str], where: dict[str, object]) -> None:
    if os.name == "nt" and "--under" in arguments:
        pytest.skip("these paths are those of other systems")
    if "--before" in arguments:
        where |= {"taken_before": "2024-06-03T14:00"}
    assert chosen(*arguments) == Filter(Where(**where))  # type: ignore[arg-type]


def test_places_are_looked_up_by_others() -> None:
    found = chosen("--place", "Paris", "--place", "Rome")
    assert found == Filter(places=("Paris", "Rome"))
    assert not found.is_empty
    assert found.where.is_empty


def test_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert chosen("--under", "a/../b").where.under[0] == os.fsencode(tmp_path / "b")
    home = os.fsencode(Path.home() / "pictures")
    assert chosen("--under", "~/pictures").where.under[0] == home


@pytest.mark.skipif(os.name == "nt", reason="not everybody may make symbolic links there")
def test_a_folder_is_known_by_the_name_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk" / "summer").mkdir(parents=True)
    (tmp_path / "pictures").symlink_to(tmp_path / "disk", target_is_directory=True)
    typed = tmp_path / "pictures" / "summer"
    under = chosen("--under", str(typed)).where.under
    assert under == (os.fsencode(typed), os.path.realpath(os.fsencode(typed)))
    (tmp_path / "circle").symlink_to("circle")
    assert (
        os.fsencode(tmp_path / "circle") in chosen("--under", str(tmp_path / "circle")).where.under
    )


def test_spans_are_counted_from_now() -> None:
    before = datetime.now()
    found = chosen("--after", "1d", "--changed-within", "2d").where
    after = datetime.now()
    assert found.taken_from is not None
    assert found.changed_from is not None
    start = datetime.fromisoformat(found.taken_from) + timedelta(days=1)
    assert before - timedelta(seconds=1) <= start <= after
    changed = datetime.fromtimestamp(found.changed_from) + timedelta(days=2)
    assert before - timedelta(hours=1) <= changed <= after + timedelta(hours=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--within", "5km"], "--within needs a position"),
        (["--portrait", "--square"], "no picture is portrait and square"),
        (["--after", "2024", "--before", "2023"], "no time is after 2024 and before 2023"),
        (["--after", "2024", "--before", "2024"], "no time is after"),
        (["--after", "soon"], "--after 'soon' is no time"),
        (["--before", "soon"], "--before 'soon' is no time"),
        (["--changed-within", "2024"], "--changed-within '2024' is no span"),
        (["--near", "Paris"], "--near 'Paris'"),
        (["--near", "1,2", "--within", "far"], "--within 'far'"),
        (["--min-size", "big"], "--min-size 'big'"),
        (["--type", "docx"], "--type 'docx'"),
        (["--camera", " "], "--camera holds nothing"),
        (["--place", ""], "--place holds nothing"),
        (["--after", ""], "--after holds nothing"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], message: str) -> None:
    with pytest.raises(QueryError) as caught:
        chosen(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    assert caught.value.hint


def test_folder_that_has_no_name_is_refused() -> None:
    with pytest.raises((PathError, QueryError)):
        chosen("--under", "")


@pytest.mark.parametrize("rating", ["0", "6", "good"])
def test_ratings_are_one_to_five(rating: str) -> None:
    with pytest.raises(click.BadParameter):
        chosen("--min-rating", rating)


def test_help_names_every_option() -> None:
    @click.command()
    @filter_options
    def command() -> None: ...

    text = command.get_help(click.Context(command))
    for option in (
        *("--after", "--before", "--changed-within", "--near", "--within", "--place", "--camera"),
        *("--lens", "--under", "--type", "--portrait", "--landscape", "--square", "--min-size"),
        *("--has-gps / --no-gps", "--min-rating", "--keyword", "--tag"),
    ):
        assert option in text


def test_times_can_be_had_as_they_were_written() -> None:
    @click.command()
    @filter_options
    @click.pass_context
    def command(context: click.Context) -> dict[str, str]:
        return typed_times(context)

    assert command.main([], standalone_mode=False) == {}
    typed = ["--after", "3w", "--changed-within", "10d", "--camera", "canon"]
    assert command.main(typed, standalone_mode=False) == {"after": "3w", "changed_within": "10d"}
