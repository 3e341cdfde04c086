"""The figures about "nothing matches" are what plain loops say."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_search import demo
from siglip_search.search.background import background_from

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
GALLERY = demo.gallery_directory()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("eval_no_match")


def asked_at_random(seed: int = 0) -> list[Any]:
    """Queries of twelve collections of thirty pictures."""
    asked_query = importlib.import_module("no_match.asked").AskedQuery
    rng = np.random.default_rng(seed)
    asked = []
    for number in range(240):
        kind = ("present", "absent", "strange")[number % 3]
        matches = (rng.random(30) < 0.1) & (kind == "present")
        if kind == "present":
            matches[0] = True
        cosines = rng.normal(-0.1, 0.1, 30) + 0.25 * matches
        clear = (rng.random(30) < 0.9) | matches
        background = background_from(cosines)
        asked.append(asked_query(kind, number % 12, cosines, matches, clear, background))
    return asked


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / "eval_no_match.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=os.environ,
    )


def test_shares_are_those_of_plain_counting(module: ModuleType) -> None:
    asked = asked_at_random()
    scores = [1 / (1 + np.exp(-20 * one.cosines)) for one in asked]
    cut = 0.7
    judged = module.judge(
        asked, scores, cut, rate=0.05, names={"absent": "absent", "strange": "strange"}
    ).figures
    pairs = list(zip(asked, scores, strict=True))
    absent = [score.max() >= cut for one, score in pairs if one.kind == "absent"]
    found = [score[one.matches].max() >= cut for one, score in pairs if one.kind == "present"]
    shown = [(one.matches[at], score[at] >= cut) for one, score in pairs for at in range(30)]
    certain = [
        match
        for one, score in pairs
        for at, match in enumerate(one.matches)
        if one.clear[at] and score[at] >= cut
    ]
    assert judged["answered, absent"].value == pytest.approx(np.mean(absent))
    assert judged["answered, absent"].number == 80
    assert judged["found, present thing"].value == pytest.approx(np.mean(found))
    recalled = [over for match, over in shown if match]
    assert judged["recall: matching pictures that are shown"].value == pytest.approx(
        np.mean(recalled)
    )
    assert judged["precision: shown pictures that match"].value == pytest.approx(np.mean(certain))
    for figure in judged.values():
        assert figure.low <= figure.value <= figure.high


def test_the_cut_in_hindsight_answers_no_more_than_it_may(module: ModuleType) -> None:
    asked = asked_at_random()
    scores = [1 / (1 + np.exp(-20 * one.cosines)) for one in asked]
    best = [score.max() for one, score in zip(asked, scores, strict=True) if one.kind == "absent"]
    strictest = sorted(best)[-5]  # four of eighty, one in twenty, are above it
    found = [
        score[one.matches].max() > strictest
        for one, score in zip(asked, scores, strict=True)
        if one.kind == "present"
    ]
    judged = module.judge(asked, scores, 0.5, rate=0.05, names={"absent": "absent"})
    assert judged.figures["found, if the cut answered 5%"].value == pytest.approx(np.mean(found))


def test_a_model_without_a_fit_is_judged_on_queries_that_its_fit_has_not_seen(
    module: ModuleType,
) -> None:
    spec = module.model_called("demo")
    asked = asked_at_random()
    scores, cut = module.cross_fitted(asked, spec)
    unseen = [one for one in asked if one.group % module.FOLDS != 0]
    calibration = module.fit_queries(unseen, spec)
    assert scores[0] == pytest.approx(
        calibration.probabilities(asked[0].cosines, asked[0].background)
    )
    refused = [
        score.max() for one, score in zip(asked, scores, strict=True) if one.kind != "present"
    ]
    assert np.mean(np.array(refused) >= cut) <= 0.05


def test_a_softmax_answers_whatever_is_asked(module: ModuleType) -> None:
    asked = asked_at_random()
    for shares in module.softmax_scores(asked, module.model_called("demo")):
        assert shares.sum() == pytest.approx(1)


def test_a_folder_of_classes_is_asked_with_and_without_each(
    module: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for place in ("beach", "city", "snow"):
        (tmp_path / "set" / place).mkdir(parents=True)
        for picture in sorted((GALLERY / place).glob("*.jpg"))[:4]:
            shutil.copy(picture, tmp_path / "set" / place)
    (tmp_path / "set/beach/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    chart = tmp_path / "chart.png"
    monkeypatch.setattr(module, "available_cores", lambda: 1)
    arguments = ["--classes", tmp_path / "set", "--json", "--plot", chart]
    monkeypatch.setattr("sys.argv", ["eval_no_match.py", *map(str, arguments)])
    module.main()
    told = capsys.readouterr()
    assert "left out: " in told.err
    assert "broken.jpg" in told.err
    ((_, judged),) = json.loads(told.out).items()
    assert set(judged) == {"raw", "calibrated", "softmax"}
    calibrated = judged["calibrated"]
    assert calibrated["found, present thing"]["value"] == 1
    assert calibrated["answered, query without its pictures"]["number"] == 3
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_a_file_of_labels_is_asked(tmp_path: Path) -> None:
    lines = []
    for place in ("beach", "city"):
        for picture in sorted((GALLERY / place).glob("*.jpg"))[:4]:
            for query in ("the beach", "the city", "a zebra"):
                label = {"query": query, "path": str(picture), "matches": place in query}
                lines.append(json.dumps(label))
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    done = run("--labels", file)
    assert done.returncode == 0, done.stderr
    assert "| answered, query without its pictures | " in done.stdout
    assert done.stdout.count("\n| ") == 9  # eight figures and the head


def test_what_is_no_set_is_told(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("nonsense", encoding="utf-8")
    for option, place, told in (
        ("--classes", tmp_path, "too few classes"),
        ("--labels", file, "line 1"),
    ):
        monkeypatch.setattr("sys.argv", ["eval_no_match.py", option, str(place)])
        with pytest.raises(SystemExit, match=told):
            module.main()


def test_collections_hold_what_they_are_said_to_hold(module: ModuleType) -> None:
    """Vectors that say nothing do: what is true of the scenes comes from how they were made."""
    sizes, scenes = (
        importlib.import_module(f"{name}") for name in ("no_match.sizes", "demo_model.scenes")
    )
    rng = np.random.default_rng(0)
    truth = scenes.truth_of([scenes.sample_scene(rng) for _ in range(300)])
    vectors = rng.standard_normal((300, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    colours = np.full((len(sizes.THINGS), len(sizes.COLOUR_NAMES)), 0.5, np.float32)
    model = importlib.import_module("demo_model.evaluation").Model(demo.model_directory())
    asked = list(sizes.ask_pool(sizes.Pool(1, vectors, truth), model, colours, 100))
    matching = {
        kind: {int(one.matches.sum()) for one in asked if one.kind == kind}
        for kind in ("absent", "bare", "single", "present")
    }
    assert matching["absent"] == matching["bare"] == {0}
    assert matching["single"] == {1}
    assert min(matching["present"]) >= 1
    assert {len(one.cosines) for one in asked} == {100}
    calibration = module.shipped_calibration(module.model_called("demo"))
    figures = sizes.size_figures(asked, calibration, 100)
    assert figures.number == sum(one.kind in {"absent", "bare"} for one in asked)
    best = [sizes.calibrated(one, calibration).max() for one in asked if one.kind == "bare"]
    assert figures.bare == pytest.approx(np.mean(np.array(best) >= calibration.cut_for(100)))
    assert figures.answered >= figures.fixed  # among fewer pictures than the fit had


def test_tables_go_between_the_marks_of_a_document(module: ModuleType, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"# Page\n{module.BEGIN}\nold\n{module.END}\nend\n", encoding="utf-8")
    module.put_into(document, "| new |")
    assert document.read_text(encoding="utf-8") == (
        f"# Page\n{module.BEGIN}\n| new |\n{module.END}\nend\n"
    )
