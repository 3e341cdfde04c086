"""`siglip-search classify` in this very process: options, forms of output and mistakes."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import click
import pytest

from siglip_search import demo
from siglip_search.cli.classify_cmd import classify
from siglip_search.engine.chosen_model import add_model
from siglip_search.errors import QueryError, SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GALLERY = demo.gallery_directory()
STAR = GALLERY / "beach/DSC00235.heic"
FISH = GALLERY / "beach/DSC00439.jpg"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; return exit status, stdout and stderr."""

    def run(*arguments: str | Path, model: str = "demo") -> tuple[int, str, str]:
        words = ["--model", model, *map(str, arguments)]
        status = classify.main(words, standalone_mode=False)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def relative_model(tmp_path: Path) -> str:
    """Install a model without probabilities and return its name."""
    folder = tmp_path / "relative"
    shutil.copytree(demo.model_directory(), folder)
    facts = (folder / "model.toml").read_text(encoding="utf-8")
    kept = [line for line in facts.splitlines() if not line.startswith(("logit_bias", "min_pro"))]
    text = "\n".join(kept).replace('name = "demo"', 'name = "relative"')
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return add_model(folder, replace=False).name


def test_nl_prints_the_objects_of_json_a_line_each(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    arguments = ("--labels", "star,fish", "-n", "1", STAR, FISH)
    _, lines, _ = run(*arguments, "--nl")
    _, array, _ = run(*arguments, "--json")
    objects = [json.loads(line) for line in lines.splitlines()]
    assert objects == json.loads(array)
    assert [[score["label"] for score in one["labels"]] for one in objects] == [["star"], ["fish"]]


def test_softmax_chooses_also_where_nothing_fits_and_says_so(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    status, text, _ = run("--softmax", "--labels", "camel,owl", STAR)
    assert status == 0
    assert text.endswith("% (forced choice)\n")
    shares = [float(share) for share in re.findall(r" ([\d.]+)%", text)]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert shares[0] >= shares[1]


def test_labels_come_from_a_file_with_commas_and_comments(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(b"\xef\xbb\xbf# things\n\nstar\n  fish, swimming \r\n")
    _, text, _ = run("--json", "--labels-file", labels, STAR)
    (picture,) = json.loads(text)
    assert {score["label"] for score in picture["labels"]} == {"star", "fish, swimming"}


def test_templates_change_the_scores_and_no_templates_is_the_bare_label(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    def cosine(*options: str) -> Any:
        _, text, _ = run("--nl", "--labels", "star", *options, STAR)
        return json.loads(text)["labels"][0]["cosine"]

    bare = cosine("--no-templates")
    assert bare == cosine("--template", "{}")
    assert len({bare, cosine(), cosine("--template", "{}", "--template", "{} in the snow")}) == 3


def test_top_shortens_what_is_shown_and_changes_no_number(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    arguments = ("--labels", "star,beach,camel", "--min-probability", "0", STAR)
    _, all_of_them, _ = run(*arguments)
    _, two, _ = run("--top", "2", *arguments)
    assert two.strip() == all_of_them.rsplit(",", 1)[0]


def test_model_without_bias_shows_relative_scores_and_says_so(
    run: Callable[..., tuple[int, str, str]], relative_model: str
) -> None:
    arguments = ("--labels", "star,camel", STAR)
    status, text, remark = run(*arguments, model=relative_model)
    assert status == 0
    assert "relative score" in remark
    assert "%" not in text
    assert text.startswith(f"{STAR}: star 0.")
    _, text, _ = run(*arguments, "--json", model=relative_model)
    (picture,) = json.loads(text)
    assert picture["none_of_these"] is None
    assert [score["probability"] for score in picture["labels"]] == [None, None]
    _, text, remark = run(*arguments, "--softmax", model=relative_model)
    assert "(forced choice)" in text
    assert "relative score" not in remark
    with pytest.raises(QueryError, match="states no probabilities"):
        run(*arguments, "--min-probability", "0.5", model=relative_model)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "one of --labels and --labels-file"),
        (["--labels", "a", "--labels-file", "b"], "one of --labels and --labels-file"),
        (["--labels", "dog,,cat"], "label 2 holds no words"),
        (["--labels", "dog,Dog"], "label 2 is 'Dog', which label 1 is already"),
        (["--labels", ""], "label 1 holds no words"),
        (["--labels-file", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--labels", "a", "--json", "--nl"], "one of --json and --nl"),
        (["--labels", "a", "--template", "{}", "--no-templates"], "--no-templates"),
        (["--labels", "a", "--template", "photo"], "has no {}"),
        (["--labels", "a,b", "--softmax", "--min-probability", "0.1"], "no cut"),
        (["--labels", "a", "--softmax"], "two labels"),
        (["--labels", "a", str(GALLERY)], "is a folder"),
    ],
)
def test_mistakes_are_told(
    run: Callable[..., tuple[int, str, str]], arguments: list[str], complaint: str
) -> None:
    with pytest.raises((click.UsageError, SiglipSearchError), match=re.escape(complaint)):
        run(*arguments, STAR)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"dog\n# x\nDOG\n", "labels.txt, line 3, is 'DOG', which "),
        (b"dog\n...\n", "labels.txt, line 2, holds no words"),
        (b"# nothing\n", "no labels"),
        (b"d\xffg\n", "labels.txt is no UTF-8 text"),
    ],
)
def test_mistakes_in_a_labels_file_name_its_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, content: bytes, complaint: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(content)
    with pytest.raises(SiglipSearchError, match=re.escape(complaint)):
        run("--labels-file", labels, STAR)
