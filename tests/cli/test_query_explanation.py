"""The options of `query --explain`, and how explanations are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from siglip_search.cli.query_explanation import (
    chosen_explaining,
    explain_options,
    explanation_footnotes,
    explanation_object,
    explanation_rows,
)
from siglip_search.engine.attribution import ExplainOptions, HitExplanation
from siglip_search.engine.patch_maps import PatchMap
from siglip_search.errors import PathError
from siglip_search.search.attribution import Effect, Part, Windows


def chosen(*arguments: str, has_rows: bool = True) -> ExplainOptions | None:
    @click.command()
    @explain_options
    @click.pass_context
    def command(context: click.Context) -> ExplainOptions | None:
        return chosen_explaining(context, has_rows=has_rows)

    result: ExplainOptions | None = command.main(list(arguments), standalone_mode=False)
    return result


def test_nothing_is_explained_unasked() -> None:
    assert chosen() is None


def test_defaults_and_all_options(tmp_path: Path) -> None:
    assert chosen("--explain") == ExplainOptions(3, "auto", 60.0, None)
    folder = tmp_path / "new" / "maps"
    arguments = ["--heatmaps", str(folder), "--explain-hits", "5", "--explain-by", "occlusion"]
    options = chosen(*arguments, "--explain-seconds", "2.5", has_rows=False)
    assert options == ExplainOptions(5, "occlusion", 2.5, folder)
    assert not folder.exists()  # it may be that nothing is found


def test_words_alone_try_no_part_of_the_picture() -> None:
    options = chosen("--explain", "--explain-by", "words")
    assert options is not None
    assert options.method is None


@pytest.mark.parametrize(
    ("arguments", "has_rows", "complaint"),
    [
        (["--explain-hits", "2"], True, "--explain-hits is for --explain"),
        (["--explain-by", "words"], True, "--explain-by is for --explain"),
        (["--explain"], False, "--explain goes with rows"),
        (["--heatmaps", "x", "--explain-by", "words"], True, "no heatmaps"),
        (["--explain", "--explain-hits", "0"], True, "--explain-hits"),
        (["--explain", "--explain-seconds", "0"], True, "--explain-seconds"),
        (["--explain", "--explain-by", "magic"], True, "--explain-by"),
    ],
)
def test_mistakes_are_usage_errors(arguments: list[str], has_rows: bool, complaint: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        chosen(*arguments, has_rows=has_rows)
    assert complaint in caught.value.format_message()


def test_a_file_is_no_folder_for_maps(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"mine")
    with pytest.raises(PathError, match="is a file") as caught:
        chosen("--heatmaps", str(file))
    assert caught.value.hint
    assert file.read_bytes() == b"mine"


def explanation(**changes: Any) -> HitExplanation:
    fields: dict[str, Any] = {
        "photo_id": 4,
        "rank": 1,
        "path": "/pictures/a.jpg",
        "asked": "red \x1b[31mball",
        "unit": "logit",
        "score": 2.345,
        "parts": (
            Effect(Part("word", "red"), 1.234),
            Effect(Part("word", "\x1b[31mball"), -0.5),
            Effect(Part("minus", "snow"), None),
        ),
    }
    return HitExplanation(**fields | changes)


def patch_map(differences: list[list[float]], **changes: Any) -> PatchMap:
    array = np.array(differences)
    fields: dict[str, Any] = {
        "method": "attention",
        "windows": Windows((array.shape[0], array.shape[1]), (1, 1)),
        "differences": array,
        "score": 2.3,
        "region": (0.0, 0.0, 1.0, 1.0),
        "model": "demo",
        "device": "cpu",
    }
    return PatchMap(**fields | changes)


def test_rows_say_each_word_and_the_strongest_place() -> None:
    rows = explanation_rows(
        explanation(
            patches=patch_map([[0, 0, 0], [3.456, 0, 0], [0, 0, 0]]), heatmap=Path("/m.png")
        )
    )
    assert [" ".join(row.split()) for row in rows] == [
        r"words red +1.23 \x1b[31mball -0.50 minus snow ? (logit +2.35)",
        "picture most from the left: +3.46 (by attention)",
        "heatmap /m.png",
    ]


@pytest.mark.parametrize(
    ("cell", "region", "place"),
    [
        ((0, 0), (0, 0, 1, 1), "top left"),
        ((1, 1), (0, 0, 1, 1), "middle"),
        ((2, 1), (0, 0, 1, 1), "bottom"),
        ((0, 2), (0, 0, 1, 1), "top right"),
        # What a tower sees of a wide picture is its middle.
        ((1, 0), (0.4, 0, 0.6, 1), "middle"),
    ],
)
def test_places_are_of_the_picture(
    cell: tuple[int, int], region: tuple[float, ...], place: str
) -> None:
    differences = np.zeros((3, 3))
    differences[cell] = 1
    (_, row) = explanation_rows(explanation(patches=patch_map(differences.tolist(), region=region)))
    assert f"most from the {place}: +1.00" in row


def test_a_picture_of_which_no_part_helps_says_so() -> None:
    (_, row) = explanation_rows(explanation(patches=patch_map([[-1.0, 0.0]])))
    assert "no part raises the score by itself" in row


def test_a_problem_is_said_in_its_place() -> None:
    (_, row) = explanation_rows(explanation(problem="the file is gone"))
    assert "not tried: the file is gone" in row


def test_a_lone_picture_has_no_words() -> None:
    (row,) = explanation_rows(explanation(parts=(), unit="cosine", score=0.5))
    assert "nothing to leave out  (cosine +0.50)" in row


def test_footnotes_name_each_method_and_its_exactness_once() -> None:
    one = explanation(patches=patch_map([[1.0]]))
    other = explanation(patches=patch_map([[1.0]], method="occlusion"))
    notes = explanation_footnotes([one, other, one, explanation()])
    assert len(notes) == 4
    assert "logit" in notes[0]
    for note, method in zip(notes[1:], ("words", "by attention", "by occlusion"), strict=True):
        assert method in note
        assert "exact" in note
        assert "do not add up" in note
    assert explanation_footnotes([]) == []


def test_the_object_is_json_and_complete() -> None:
    found = json.loads(json.dumps(explanation_object(explanation(patches=patch_map([[1.0, 2.0]])))))
    assert found["unit"] == "logit"
    assert found["parts"][0] == {"kind": "word", "text": "red", "difference": 1.234}
    assert found["parts"][2]["difference"] is None
    assert found["patches"]["differences"] == [[1.0, 2.0]]
    assert (found["patches"]["rows"], found["patches"]["columns"]) == (1, 2)
    assert found["patches"]["method"] == "attention"
    assert "exact for the head" in found["patches"]["exactness"]
    assert explanation_object(explanation())["patches"] is None
