"""`siglip-search calibrate` in this very process: questions, labels, status, mistakes."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import click
import pytest

from siglip_search import demo, open_library
from siglip_search.cli.calibrate_cmd import calibrate
from siglip_search.cli.calibration_report import cut_in_words
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

GALLERY = demo.gallery_directory()
TRUTH: dict[str, Any] = json.loads((GALLERY / "gallery.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("library")
    with open_library(directory, model="demo") as opened:
        opened.index([GALLERY])
    return directory


@pytest.fixture
def run(library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with some keys on stdin; return status, stdout and stderr."""
    monkeypatch.setenv("SIGLIP_SEARCH_LIBRARY", str(library))

    def run(*arguments: str | Path, keys: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{key}\n" for key in keys)))
        status = calibrate.main(list(map(str, arguments)), standalone_mode=False)
        output = capsys.readouterr()
        return status or 0, output.out, output.err

    run("--reset", "--yes")
    return run


def write_labels(path: Path, things: list[str]) -> None:
    """Write for each thing whether each picture shows it."""
    with path.open("w", encoding="utf-8") as file:
        for thing in things:
            for facts in TRUTH["pictures"]:
                label = {
                    "query": f"a {thing}",
                    "path": str(GALLERY / facts["file"]),
                    "matches": thing
                    in {facts["thing"], *(one["thing"] for one in facts["others"])},
                }
                file.write(json.dumps(label) + "\n")


def status(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--status", "--json")[1])
    return found


def test_answers_are_kept_and_the_next_call_goes_on(run: Run) -> None:
    code, out, _ = run("dog", "cat", keys="ynq")
    assert code == 1
    assert "kept 2 answers about 2 queries, 1 of them yes" in out
    assert status(run)["answers"] == 2
    code, out, _ = run("dog", "cat", keys="y")
    assert "kept 3 answers" in out


def test_every_key_does_what_it_says(run: Run) -> None:
    _, out, _ = run("dog", "cat", keys="xysbnq")
    first = out.split("1 of 80: ")[1].splitlines()[0]
    assert out.count(first) == 2  # asked again after b
    assert out.count("[y]es  [n]o  [s]kip  [b]ack  [q]uit") == 2  # x is no answer
    assert "kept 1 answer about 1 query, 0 of them yes" in out


def test_questions_end_at_the_number_asked_for(run: Run) -> None:
    _, out, _ = run("-n", "3", "dog", "cat", keys="nnnnnn")
    assert "3 of 3: " in out
    assert "kept 3 answers" in out


def test_words_that_are_used_up_are_said_to_be(run: Run) -> None:
    _, out, _ = run("dog", keys="n" * 20)
    assert "Nothing is left to ask" in out


def test_labels_make_a_calibration_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    things = sorted({*TRUTH["things"][::8], *TRUTH["absent_things"]})
    write_labels(file, things)
    assert status(run)["calibration"]["origin"] == "shipped"
    code, out, err = run("--labels", file)
    answers = len(things) * len(TRUTH["pictures"])
    assert code == 0
    assert f"took {answers:,} answers" in err
    assert f"calibrated on {answers:,} answers about {len(things)} queries" in out
    found = status(run)
    assert found["calibration"]["origin"] == "yours"
    assert found["calibration"]["pairs"] == found["answers"] == answers
    assert found["worth"]["error"] < 0.05
    assert found["pictures"] == found["calibration"]["pictures"] == len(TRUTH["pictures"])
    assert found["cut"] == found["calibration"]["cut"]
    assert "measured on queries left out" in run("--status")[1]
    _, out, _ = run("--reset", "--yes")
    assert out == f"forgot {answers:,} answers\n"
    assert status(run)["calibration"]["origin"] == "shipped"


def test_labels_of_other_pictures_are_counted_and_passed_over(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    write_labels(file, ["dog"])
    with file.open("a", encoding="utf-8") as opened:
        opened.write('\n{"query": "dog", "path": "elsewhere.jpg", "matches": false}\n')
    _, _, err = run("--labels", file)
    number = len(TRUTH["pictures"]) + 2
    assert f"line {number}: {tmp_path / 'elsewhere.jpg'} is not in the library" in err
    file.write_text('{"query": "dog", "path": "elsewhere.jpg", "matches": false}', "utf-8")
    with pytest.raises(PathError, match="no picture that"):
        run("--labels", file)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dog,a.jpg,1", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"path": "a.jpg", "matches": true}', '"query" must be words'),
        ('{"query": " ", "path": "a.jpg", "matches": true}', '"query" must be words'),
        ('{"query": "dog", "path": 1, "matches": true}', '"path" must be'),
        ('{"query": "dog", "path": "a.jpg", "matches": 1}', '"matches" must be'),
    ],
)
def test_a_line_that_is_no_label_is_told_with_its_number(
    run: Run, tmp_path: Path, line: str, reason: str
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(PathError, match=f"line 2: .*{reason}"):
        run("--labels", file)


def test_a_labels_file_that_cannot_be_used_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(PathError, match="cannot be read"):
        run("--labels", tmp_path / "missing")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(PathError, match="holds no label"):
        run("--labels", tmp_path / "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(PathError, match="no UTF-8"):
        run("--labels", tmp_path / "binary")


@pytest.mark.parametrize(
    "arguments",
    [("dog", "--status"), ("--reset", "--status"), ("--yes",), ("--json",), ("-n", "0")],
)
def test_options_that_do_not_go_together_are_refused(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        run(*arguments)


def test_forgetting_is_asked_about_first(run: Run) -> None:
    run("dog", keys="yq")
    with pytest.raises(click.Abort):
        run("--reset", keys="n")
    assert status(run)["answers"] == 1


def test_the_status_tells_the_cut_for_this_library(run: Run) -> None:
    found = status(run)
    assert found["pictures"] == len(TRUTH["pictures"])
    assert found["cut"] == found["calibration"]["cut"]  # as many as the shipped fit was cut for
    _, out, _ = run("--status")
    assert "among 120 pictures those from 31.7% on are shown" in out
    assert "beyond" not in out


@pytest.mark.parametrize(
    ("cut", "words"), [(0.405, "40.5%"), (0.937, "93.7%"), (0.9997, "99.97%"), (1.0, "100.0%")]
)
def test_a_cut_is_never_rounded_to_certainty(cut: float, words: str) -> None:
    assert cut_in_words(cut) == words
