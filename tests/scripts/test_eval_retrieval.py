"""Recall and zero-shot accuracy are what a second, simpler computation says."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_search import demo
from siglip_search.engine.chosen_model import model_called
from siglip_search.models.registry import Published, find_row
from siglip_search.models.spec import VariantSpec
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
GALLERY = demo.gallery_directory()
TRUTH: list[dict[str, Any]] = json.loads((GALLERY / "gallery.json").read_text(encoding="utf-8"))[
    "pictures"
]

Captions = dict[str, list[str]]


def said_of(facts: dict[str, Any]) -> list[str]:
    """Say two things of a picture; some pictures share one, so that there are ties."""
    return [
        f"a {facts['colour']} {facts['thing']}, {facts['place']}",
        f"there is a {facts['thing']} here",
    ]


CAPTIONS: Captions = {facts["file"]: said_of(facts) for facts in TRUTH[::2]}
# One picture under a second name: nobody can tell which of the two a text is about.
CAPTIONS["beach/../" + TRUTH[0]["file"]] = said_of(TRUTH[0])


def coco(captions: Captions) -> str:
    images = [{"id": 7 * n, "file_name": file} for n, file in enumerate(captions)]
    annotations = [
        {"id": 2 * n + which, "image_id": 7 * n, "caption": texts[which]}
        for which in (0, 1)
        for n, texts in enumerate(captions.values())
    ]
    return json.dumps({"images": images, "annotations": annotations})


def karpathy(captions: Captions) -> str:
    images: list[dict[str, Any]] = [
        {
            "filepath": os.path.dirname(file),
            "filename": os.path.basename(file),
            "split": "test",
            "sentences": [{"raw": text, "tokens": text.split()} for text in texts],
        }
        for file, texts in captions.items()
    ]
    images.append({"filename": "x.jpg", "split": "train", "sentences": [{"raw": "x"}]})
    return json.dumps({"dataset": "flickr30k", "images": images})


def results_csv(captions: Captions) -> str:
    lines = [
        f"{file}| {number}| {text}"
        for file, texts in captions.items()
        for number, text in enumerate(texts)
    ]
    return "\n".join(["image_name| comment_number| comment", *lines]) + "\n"


def captions_txt(captions: Captions) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["image", "caption"])
    writer.writerows([file, text] for file, texts in captions.items() for text in texts)
    return stream.getvalue()


FORMS = [coco, karpathy, results_csv, captions_txt]


@pytest.fixture
def retrieval(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the script's package, as the script itself does."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: importlib.import_module(f"retrieval.{name}")


def run(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "eval_retrieval.py", *arguments],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def cosines() -> np.ndarray:
    """Embed captions and pictures one by one: cosines of every text with every picture."""
    spec = model_called("demo")
    vision, text = VisionTower(spec), TextTower(spec)
    pictures = []
    for name in CAPTIONS:
        with (GALLERY / name).open("rb") as file:
            image = decode(file, limits=DecodeLimits(), min_side=384).image
        pictures.append(vision.embed(vision.preprocessor(image)[None])[0])
    texts = [text.embed([caption])[0] for said in CAPTIONS.values() for caption in said]
    products: np.ndarray = np.array(texts, np.float64) @ np.array(pictures, np.float64).T
    return products


def recall_by_hand(cosines: np.ndarray) -> dict[str, float]:
    """Sort the answers to each question, wrong ones first among equals; a picture has two texts."""
    cosines = cosines.round(9)  # so that what is equal stays so whatever the order of a sum
    texts, pictures = cosines.shape
    recall = {}
    for k in (1, 5, 10):
        found = 0
        for text in range(texts):
            order = sorted(range(pictures), key=lambda p: (-cosines[text, p], p == text // 2))
            found += text // 2 in order[:k]
        recall[f"text to image R@{k}"] = found / texts
        found = 0
        for picture in range(pictures):
            order = sorted(range(texts), key=lambda t: (-cosines[t, picture], t // 2 == picture))
            found += any(text // 2 == picture for text in order[:k])
        recall[f"image to text R@{k}"] = found / pictures
    return recall


def test_recall_is_that_of_a_sort_by_hand(tmp_path: Path, cosines: np.ndarray) -> None:
    file = tmp_path / "captions.json"
    file.write_text(coco(CAPTIONS), encoding="utf-8")
    arguments = ("--model", "demo", "--pictures", GALLERY, "--captions", file)
    report = json.loads(run(*arguments, "--json").stdout)
    (measured,) = report["sets"]
    figures = measured["figures"]
    expected = recall_by_hand(cosines)
    assert {name: share["value"] for name, share in figures.items()} == pytest.approx(expected)
    assert 0.2 < expected["text to image R@1"] < 0.95  # neither all nor nothing: it can go wrong
    assert figures["text to image R@1"]["tied"] >= 2
    assert (measured["pictures"], measured["texts"]) == (61, 122)
    assert [figures[f"{way} R@1"]["questions"] for way in ("text to image", "image to text")] == [
        122,
        61,
    ]
    for share in figures.values():
        assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
        assert share["published"] is None
    assert "not the published set: 61 pictures instead of COCO's 5,000" in measured["remark"]
    assert measured["left_out"] == []


def test_every_form_holds_the_same(tmp_path: Path, retrieval: Callable[[str], ModuleType]) -> None:
    read = retrieval("captions").read_captions
    for write in FORMS:
        file = tmp_path / "captions"
        file.write_bytes(b"\xef\xbb\xbf" + write(CAPTIONS).encode())
        found = read(file)
        assert {p.files[0]: sorted(p.captions) for p in found.pictures} == {
            name: sorted(said) for name, said in CAPTIONS.items()
        }, write
        assert found.is_test_split == (write is karpathy)


def test_quoted_and_unquoted_captions_keep_their_commas(
    tmp_path: Path, retrieval: Callable[[str], ModuleType]
) -> None:
    file = tmp_path / "captions.txt"
    file.write_text('image,caption\na.jpg,"one, ""two"""\n\na.jpg,three, four\n', encoding="utf-8")
    (picture,) = retrieval("captions").read_captions(file).pictures
    assert picture.captions == ('one, "two"', "three, four")


def test_pictures_that_cannot_be_read_are_left_out_with_their_captions(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = [name for name in CAPTIONS if name.endswith(".jpg")][:4]
    captions = {}
    for number, name in enumerate(names):
        shutil.copy(GALLERY / name, pictures / f"{number}.jpg")
        captions[f"{number}.jpg"] = CAPTIONS[name]
    (pictures / "1.jpg").write_bytes(b"no picture")
    captions["missing.jpg"] = ["nothing", "at all"]
    file = tmp_path / "results.csv"
    file.write_text(results_csv(captions), encoding="utf-8")
    arguments = ("--model", "demo", "--pictures", pictures, "--captions", file)
    done = run(*arguments)
    assert "3 pictures, 6 texts" in done.stdout
    assert "| text to image R@1 | 6 |" in done.stdout
    assert "3 pictures instead of Flickr30k's 1,000" in done.stdout
    assert "2 pictures could not be read and are left out" in done.stderr
    assert f"{pictures / 'missing.jpg'}: no such file" in done.stderr
    assert str(pictures / "1.jpg") in done.stderr
    assert "1 pictures, 2 texts" in run(*arguments, "--limit", "1").stdout


def test_accuracy_is_the_share_of_pictures_whose_class_is_nearest(tmp_path: Path) -> None:
    things = ["dog", "cat", "ice cream", "bicycle", "star", "boat", "tree"]
    spec = model_called("demo")
    vision, text = VisionTower(spec), TextTower(spec)
    templates = ["{}", "this is a {}"]
    means = [
        text.embed([t.format(thing) for t in templates]).astype(np.float64).mean(axis=0)
        for thing in sorted(things)
    ]
    prototypes = np.array([mean / np.linalg.norm(mean) for mean in means])
    right = 0
    for number, facts in enumerate(TRUTH):
        # Besides, pictures of other things lie in wrong folders: not every answer can be right.
        thing = facts["thing"] if facts["thing"] in things else things[number % 7]
        folder = tmp_path / "set" / thing.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        source = GALLERY / facts["file"]
        shutil.copy(source, folder / f"{number}{source.suffix}")
        with source.open("rb") as file:
            image = decode(file, limits=DecodeLimits(), min_side=384).image
        vector = vision.embed(vision.preprocessor(image)[None])[0]
        right += sorted(things)[int((prototypes @ vector).argmax())] == thing
    (tmp_path / "set" / "dog" / "notes.txt").write_text("no picture")
    done = run(
        *("--model-dir", demo.model_directory(), "--classes", tmp_path / "set", "--json"),
        *("--template", templates[0], "--template", templates[1]),
    )
    (measured,) = json.loads(done.stdout)["sets"]
    assert (measured["pictures"], measured["texts"]) == (len(TRUTH), 7)
    assert measured["figures"]["zero-shot top 1"]["value"] == pytest.approx(right / len(TRUTH))
    assert set(measured["figures"]) == {"zero-shot top 1", "zero-shot top 5"}
    assert "not the published set" in measured["remark"]


def test_classes_may_have_other_names_than_their_folders(
    tmp_path: Path, retrieval: Callable[[str], ModuleType]
) -> None:
    for name, count in (("n01", 1), ("n02", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(GALLERY / "beach/DSC00439.jpg", tmp_path / "set" / name / f"{number}.jpg")
    names = tmp_path / "names.tsv"
    names.write_text("n02\tgoldfish\nn01\ttench, a fish\nn03\tshark\n", encoding="utf-8")
    labelled = retrieval("labelled")
    found = labelled.read_labelled(tmp_path / "set", names)
    assert found.classes == ("tench, a fish", "goldfish")
    assert found.class_of == (0, 1, 1, 1)  # in turn, so that a limit takes from every class
    names.write_text("n01\ttench\nn02 goldfish\n", encoding="utf-8")
    with pytest.raises(retrieval("captions").InputError, match=r"names\.tsv, line 2"):
        labelled.read_labelled(tmp_path / "set", names)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1: '' is no known heading"),
        ("picture;text\n", "line 1: 'picture;text' is no known heading"),
        ("image,caption\na.jpg,x\nb.jpg\n", "line 3: 1 fields"),
        ("image,caption\na.jpg,x\n\nb.jpg,\n", "line 4: the caption is blank"),
        ('image,caption\na.jpg,x\nb.jpg,"y\nc.jpg,z\n', "line 3: unexpected end of data"),
        ("image_name| comment_number| comment\na.jpg| 0| x\nb.jpg| 4   y\n", "line 3: 2 fields"),
        ("image_name| comment_number| comment\n | 0| x\n", "line 2: names no picture"),
        ("image,caption\n", "holds no captions"),
        ('{"images": [\n{,}]}', "line 2: no JSON"),
        ('{"info": 1}', "has neither"),
        ('{"images": 1, "annotations": []}', "images is no list"),
        ('{"images": [{"id": 1}], "annotations": []}', "images[0]: file_name is missing"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            '"annotations": []}',
            "images[1]: another picture has the id 1",
        ),
        (
            '{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}',
            "annotations[0]: no picture has the id 3",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a"}], '
            '"annotations": [{"image_id": 1, "caption": " "}]}',
            "annotations[0]: the caption is blank",
        ),
        ('{"images": [{"split": "val", "filename": "a"}]}', "has no split 'test'"),
        ('{"images": [{"split": "test", "filename": "a", "sentences": [3]}]}', "sentences[0]"),
    ],
)
def test_mistakes_in_a_captions_file_are_told_with_their_place(
    tmp_path: Path, retrieval: Callable[[str], ModuleType], content: str, complaint: str
) -> None:
    captions = retrieval("captions")
    file = tmp_path / "captions.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(captions.InputError) as caught:
        captions.read_captions(file)
    assert complaint in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_in_another_encoding_is_told_with_its_line(
    tmp_path: Path, retrieval: Callable[[str], ModuleType]
) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    captions = retrieval("captions")
    with pytest.raises(captions.InputError, match="line 2: no UTF-8"):
        captions.read_captions(file)


def test_mistakes_end_the_program_with_one_line_and_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("image,caption\nnowhere.jpg,x\n", encoding="utf-8")
    arguments = ("--pictures", tmp_path, "--captions", file)
    done = run("--model", "demo", *arguments, expect=2)
    assert done.stderr.startswith("eval_retrieval: none of 1 pictures can be read\n")
    assert "no such file" in done.stderr


def test_a_tie_is_no_hit(retrieval: Callable[[str], ModuleType]) -> None:
    figures = retrieval("figures")
    pictures = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    texts = pictures.copy()
    ranks = figures.text_to_picture_ranks(texts, pictures, np.arange(3))
    assert ranks.pessimistic.tolist() == [2, 2, 1]
    assert ranks.optimistic.tolist() == [1, 1, 1]
    share = figures.share_within(ranks, 1)
    assert (share.value, share.tied, share.questions) == (pytest.approx(1 / 3), 2, 3)
    # A picture whose own two texts are equal has no tie: either is right.
    ranks = figures.picture_to_text_ranks(pictures[:1], texts[:2], np.array([0, 0]))
    assert ranks.pessimistic.tolist() == [1]


def test_intervals_are_wilsons_and_wider_where_questions_hang_together(
    retrieval: Callable[[str], ModuleType],
) -> None:
    figures = retrieval("figures")
    # Wilson's interval of 81 among 263: Newcombe 1998, table I, method 3.
    assert figures.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert figures.wilson(0.0, 20)[0] == 0.0
    chance = np.random.default_rng(0)
    per_picture = chance.random(400) < 0.6
    together, group = np.repeat(per_picture, 5), np.repeat(np.arange(400), 5)
    alone = figures.interval(together, np.arange(2000))
    grouped = figures.interval(together, group)
    # Five captions that always agree are worth one.
    assert grouped == pytest.approx(figures.wilson(per_picture.mean(), 400), abs=1e-3)
    assert grouped[1] - grouped[0] == pytest.approx(math.sqrt(5) * (alone[1] - alone[0]), rel=0.01)
    mixed = chance.random(2000) < 0.6
    wide = np.subtract(*figures.interval(mixed, group)[::-1])
    assert wide == pytest.approx(
        np.subtract(*figures.interval(mixed, np.arange(2000))[::-1]), rel=0.1
    )
    # All were hit: how much they hang together cannot be seen, so each picture counts once.
    assert figures.interval(np.ones(50, bool), np.repeat(np.arange(10), 5)) == figures.wilson(
        1.0, 10
    )


def test_published_figures_stand_beside_the_measured_ones(
    retrieval: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    published, captions = retrieval("published"), retrieval("captions")
    row = Published(source="paper", imagenet_top_1=78.5, coco_text_to_image_r1=49.7)
    file = tmp_path / "captions.json"
    file.write_text(coco(CAPTIONS), encoding="utf-8")
    of_coco = captions.read_captions(file)
    assert published.retrieval_figures(row, of_coco) == {"text to image R@1": pytest.approx(0.497)}
    assert published.accuracy_figures(row) == {"zero-shot top 1": pytest.approx(0.785)}
    assert published.retrieval_figures(None, of_coco) == {}
    assert published.published_figures(model_called("demo")) is None
    assert "does not say that they are the same" in published.retrieval_remark(of_coco, 5000)
    file.write_text(karpathy(CAPTIONS), encoding="utf-8")
    of_flickr = captions.read_captions(file)
    assert published.retrieval_figures(row, of_flickr) == {}
    assert "the published set: Flickr30k's 1,000" in published.retrieval_remark(of_flickr, 1000)
    assert "instead of Flickr30k's 1,000" in published.retrieval_remark(of_flickr, 999)
    assert "not the published set" in published.accuracy_remark(50_000, 999)


def test_a_variant_is_compared_with_the_model_that_it_was_made_from(
    retrieval: Callable[[str], ModuleType],
) -> None:
    base = "siglip-base-patch16-384"
    variant = VariantSpec(of=base, recipe="test")
    spec = replace(model_called("demo"), name="mine-int8", variant=variant)
    assert retrieval("published").published_figures(spec) == find_row(base).published


def test_the_table_shows_published_figures_and_their_source(
    retrieval: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    figures, measure = retrieval("figures"), retrieval("measure")
    script = importlib.import_module("eval_retrieval")
    share = figures.Share(value=0.5, low=0.4, high=0.6, questions=25_010, tied=3)
    shares = {"text to image R@1": share, "text to image R@5": share}
    measured = measure.Measurement(shares, 5_000, 25_010, picture_seconds=10.0, text_seconds=2.0)
    published = Published(source="a paper", coco_text_to_image_r1=49.7)
    known = {"text to image R@1": 0.497}
    one_set = script.set_object("a set", measured, published, known, "a remark")
    model = {"model": "x", "vision_precision": "int8", "text_precision": "fp32"}
    script.print_report({**model, "sets": [one_set]})
    lines = capsys.readouterr().out.splitlines()
    assert "| text to image R@1 | 25,010 | 50.0 | 40.0 to 60.0 | 49.7 | 3 |" in lines
    assert "| text to image R@5 | 25,010 | 50.0 | 40.0 to 60.0 |  | 3 |" in lines
    assert {"x (int8 pictures, fp32 texts)", "a remark", "published: a paper"} <= set(lines)
