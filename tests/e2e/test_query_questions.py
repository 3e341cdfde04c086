"""`siglip-search query` with pictures, arithmetic, conditions, filters and pages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from installed_command import COMMAND
from PIL import Image

if TYPE_CHECKING:
    from installed_command import CommandLine


def hits(cli: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("query", "--json", *arguments).json
    return found


def test_a_picture_is_a_question_as_a_file_or_from_standard_input(
    indexed_gallery: CommandLine, tmp_path: Path
) -> None:
    best = hits(indexed_gallery, "a dog", "--min-probability", "0", "-n", "1")[0]["path"]
    alike = hits(indexed_gallery, "--like", best, "-n", "5")
    assert len(alike) == 5
    assert best not in [hit["path"] for hit in alike]
    assert {hit["probability"] for hit in alike} == {None}

    def piped(content: bytes, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [COMMAND, "query", "--json", "--like", "-", "-n", "5"],
            input=content,
            capture_output=True,
            env=indexed_gallery.environment(),
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done

    assert json.loads(piped(Path(best).read_bytes()).stdout) == alike
    Image.open(best).rotate(2).save(tmp_path / "turned.png")
    assert json.loads(piped((tmp_path / "turned.png").read_bytes()).stdout)[0]["path"] == best
    assert b"standard input is empty" in piped(b"", 2).stderr
    assert piped(b"no picture at all", 2).stderr.startswith(b"siglip-search: standard input: ")


def test_pages_and_orders(indexed_gallery: CommandLine) -> None:
    everything = ("a dog", "--min-similarity", "-0.99")
    whole = hits(indexed_gallery, *everything, "-n", "20")
    second = hits(indexed_gallery, *everything, "-n", "10", "--offset", "10")
    assert second == whole[10:]
    assert [hit["rank"] for hit in second] == list(range(11, 21))
    by_name = hits(indexed_gallery, *everything, "--sort", "name", "-n", "120")
    names = [Path(hit["path"]).name.casefold() for hit in by_name]
    assert len(names) == 120
    assert names == sorted(names)
    beyond = indexed_gallery("query", *everything, "--offset", "500", expect=1)
    assert beyond.stdout == b""


def test_what_is_added_and_taken_away_shifts_the_order_of_what_the_words_match(
    indexed_gallery: CommandLine,
) -> None:
    plain = hits(indexed_gallery, "bicycle", "-n", "120")
    assert len(plain) > 1
    for shift in (("--minus", "red"), ("--plus", "at night=3"), ("--minus", "red=5")):
        shifted = hits(indexed_gallery, "bicycle", "-n", "120", *shift)
        chances = {hit["path"]: hit["calibrated_probability"] for hit in shifted}
        assert chances == {hit["path"]: hit["calibrated_probability"] for hit in plain}
        cosines = [hit["cosine"] for hit in shifted]
        assert cosines == sorted(cosines, reverse=True)
    assert [hit["path"] for hit in shifted] != [hit["path"] for hit in plain]
    # Nothing of the kind is in the gallery: no weight makes it appear.
    indexed_gallery("query", "the prime minister", "--minus", "red=5", expect=1)
    unnamed = hits(indexed_gallery, "--minus", "red", "-n", "3")
    assert {(hit["probability"], hit["calibrated_probability"]) for hit in unnamed} == {
        (None, None)
    }


def test_filters_narrow_the_answer_and_are_an_answer(indexed_gallery: CommandLine) -> None:
    beach = next(Path(indexed_gallery.library).parent.rglob("beach"))
    everything = ("a dog", "--min-similarity", "-0.99", "-n", "120")
    below = hits(indexed_gallery, *everything, "--under", str(beach))
    assert below
    assert {Path(hit["path"]).parent for hit in below} == {beach}
    listed = hits(indexed_gallery, "--under", str(beach), "-n", "120")
    assert {hit["path"] for hit in listed} == {hit["path"] for hit in below}
    assert {(hit["probability"], hit["cosine"]) for hit in listed} == {(None, None)}
    rows = indexed_gallery("query", "--under", str(beach), "-n", "3").text.splitlines()
    assert [Path(row.strip().split("  ")[-1]).parent for row in rows] == [beach] * 3
    leaving = hits(indexed_gallery, *everything, "--type", "png", "--portrait")
    assert all(hit["format"] == "PNG" and hit["height"] > hit["width"] for hit in leaving)


def test_terms_and_conditions_are_taken(indexed_gallery: CommandLine) -> None:
    plain = hits(indexed_gallery, "a dog", "--min-similarity", "-0.99", "-n", "120")
    shifted = hits(
        indexed_gallery,
        *("a dog", "--plus", "snow=2", "--minus", "red", "--min-similarity", "-0.99", "-n", "120"),
    )
    assert {hit["path"] for hit in plain} == {hit["path"] for hit in shifted}
    assert [hit["path"] for hit in plain] != [hit["path"] for hit in shifted]
    fewer = hits(
        indexed_gallery, "a dog", "--not", "a dog", "--min-similarity", "-0.99", "-n", "120"
    )
    dogs = hits(indexed_gallery, "a dog", "-n", "120")
    assert {hit["path"] for hit in fewer} == {hit["path"] for hit in plain} - {
        hit["path"] for hit in dogs
    }
    either = hits(indexed_gallery, "--any-of", "a dog", "--any-of", "a car", "-n", "120")
    assert {hit["path"] for hit in dogs} <= {hit["path"] for hit in either}
    said = hits(indexed_gallery, "a dog", "--templates", "--min-similarity", "-0.99", "-n", "1")
    assert said[0]["cosine"] != plain[0]["cosine"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'WORDS...'"),
        (["", "--like", "a.jpg"], "holds no words"),
        (["--like", "nowhere.jpg"], "nowhere.jpg does not exist"),
        (["dog", "--plus", "cat=0"], "the weight of 'cat' is 0"),
        (["dog", "--offset", "-1"], "--offset"),
        (["--like", "-", "--like", "-"], "reads standard input once"),
        (["--plus", "dog", "--min-probability", "0.1"], "similarities, no probabilities"),
        (["dog", "--after", "soon"], "--after 'soon' is no time"),
        (["dog", "--saved", "sea"], "Choose one of WORDS and --saved"),
        (["--saved", "sea", "--not", "dog"], "no search is saved as 'sea'"),
    ],
)
def test_bad_question_gets_one_line_and_status_2(
    indexed_gallery: CommandLine, arguments: list[str], complaint: str
) -> None:
    refused = indexed_gallery("query", *arguments, expect=2)
    assert refused.stdout == b""
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_picture_has_similarities_and_no_probabilities(indexed_gallery: CommandLine) -> None:
    best = hits(indexed_gallery, "a dog", "--min-probability", "0", "-n", "1")[0]["path"]
    refused = indexed_gallery("query", "--like", best, "--min-probability", "0.5", expect=2)
    assert "--min-similarity" in refused.stderr
    refused = indexed_gallery("query", "--like", best, "--sort", "date", expect=2)
    assert "without a cut" in refused.stderr
    none = indexed_gallery("query", "--like", best, "--min-similarity", "1", expect=1)
    assert "--min-similarity" in none.stderr


def test_a_saved_question_is_asked_by_its_name(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    asked = ("a dog", "--plus", "snow=2", "--min-similarity", "-0.99", "-n", "7")
    cli("save", "snowy dogs", *asked)
    assert hits(cli, "--saved", "snowy dogs") == hits(cli, *asked)
    page = ("-n", "3", "--offset", "2")
    assert hits(cli, "--saved", "snowy dogs", *page) == hits(cli, *asked[:-2], *page)
    refused = cli("query", "--saved", "snowy dogs", "--not", "cat", expect=2)
    assert "--saved asks what was saved" in refused.stderr


def test_an_explanation_stands_below_its_row_and_in_json(indexed_gallery: CommandLine) -> None:
    asked = ("red bicycle", "--min-probability", "0", "-n", "2", "--explain", "--explain-hits", "1")
    lines = indexed_gallery("query", *asked).text.splitlines()
    assert lines[1].split()[:4:3] == ["words", "bicycle"]
    first, second = hits(indexed_gallery, *asked)
    assert [part["text"] for part in first["explanation"]["parts"]] == ["red", "bicycle"]
    assert "explanation" not in second
    refused = indexed_gallery("query", "--type", "jpg", "--explain", expect=2)
    assert "nothing to explain" in refused.stderr
