"""CLIP's byte-pair encoding on a small list of merges."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.errors import ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.tokenizers import open_tokenizer
from siglip_search.tokenizers.clip_bpe import ClipBpeTokenizer

if TYPE_CHECKING:
    from siglip_search.models.spec import Canonicalization

LENGTH = 12

# "cat" and "dog" as words, "ca" and "do" inside them, "the" in two steps, and a mark.
MERGES = ["c a", "ca t</w>", "d o", "do g</w>", "t h", "th e</w>", "! !</w>"]
START, END = 512 + len(MERGES), 513 + len(MERGES)

# Of GPT-2's alphabet: byte 0x21 is 0, letters follow in ASCII's order; 256 more end a word.
LETTER = {letter: ord(letter) - ord("!") for letter in "!abcdefghijklmnopqrstuvwxyz'<>_1"}


def write(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def open_bpe(
    path: Path,
    *,
    canonicalize: Canonicalization = "clip",
    length: int = LENGTH,
    pad_id: int = 0,
    end_id: int = END,
    start_id: int | None = START,
) -> ClipBpeTokenizer:
    return ClipBpeTokenizer(
        path,
        canonicalize=canonicalize,
        length=length,
        pad_id=pad_id,
        end_id=end_id,
        start_id=start_id,
    )


@pytest.fixture(scope="session")
def merges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "merges.txt"
    return write(path, "\n".join(["#version: 0.2", *MERGES, ""]))


@pytest.fixture(scope="session")
def tokenizer(merges: Path) -> ClipBpeTokenizer:
    return open_bpe(merges)


def words(tokenizer: ClipBpeTokenizer, text: str) -> list[int]:
    """Return the ids between the start and the end."""
    row = tokenizer.encode([text])[0].tolist()
    assert row[0] == START
    return row[1 : row.index(END)]


def test_a_text_is_a_start_its_pieces_an_end_and_padding(tokenizer: ClipBpeTokenizer) -> None:
    (row,) = tokenizer.encode(["The CAT  dog"])
    assert row.dtype == np.int64
    assert row.tolist() == [START, 517, 513, 515, END] + [0] * (LENGTH - 5)


def test_the_vocabulary_follows_from_the_merges(tokenizer: ClipBpeTokenizer) -> None:
    assert tokenizer.vocabulary_size == 512 + len(MERGES) + 2
    # Inside a word and at its end a letter is another piece.
    assert words(tokenizer, "cab") == [512, LETTER["b"] + 256]
    assert words(tokenizer, "x") == [LETTER["x"] + 256]
    # Byte 0 is the first of those that are not visible themselves; "é" is two bytes.
    assert words(tokenizer, "é") == [0xC3 - 0xAE + 94 + 12, 0xA9 - 0xA1 + 94 + 256]


def test_a_piece_that_two_merges_make_has_the_id_of_the_later(tmp_path: Path) -> None:
    path = write(tmp_path / "merges.txt", "#version: 0.2\na b\nb c</w>\nab c</w>\na bc</w>\n")
    opened = open_bpe(path, start_id=516, end_id=517)
    assert opened.vocabulary_size == 518
    assert opened.encode(["abc"])[0].tolist()[:3] == [516, 515, 517]


def test_words_digits_and_marks_are_cut_apart(tokenizer: ClipBpeTokenizer) -> None:
    last = {letter: number + 256 for letter, number in LETTER.items()}
    assert words(tokenizer, "a1b") == [last["a"], last["1"], last["b"]]
    assert words(tokenizer, "11") == [last["1"], last["1"]]
    assert words(tokenizer, "a!!") == [last["a"], 518]
    assert words(tokenizer, "x's") == [last["x"], LETTER["'"], last["s"]]
    # Behind another mark an apostrophe belongs to the marks.
    assert words(tokenizer, "!'s") == [LETTER["!"], last["'"], last["s"]]


def test_what_the_reference_takes_for_a_case_of_another_letter(tokenizer: ClipBpeTokenizer) -> None:
    # The long s closes a word like "s", and the combining iota is no character at all.
    assert words(tokenizer, "x'\u017fx")[1] == LETTER["'"]
    assert words(tokenizer, "x'\u017fx")[-1] == LETTER["x"] + 256
    assert words(tokenizer, "x\u0345x") == words(tokenizer, "x x")


def test_a_long_text_is_cut_and_still_ends(tokenizer: ClipBpeTokenizer) -> None:
    (row,) = tokenizer.encode(["dog " * 1000])
    assert row.tolist() == [START, *[515] * (LENGTH - 2), END]


@pytest.mark.parametrize(("length", "expected"), [(1, [END]), (2, [START, END])])
def test_the_end_is_kept_however_short_the_row(
    merges: Path, length: int, expected: list[int]
) -> None:
    assert open_bpe(merges, length=length).encode(["cat dog"]).tolist() == [expected]


def test_an_empty_text_is_a_start_an_end_and_padding(tokenizer: ClipBpeTokenizer) -> None:
    assert tokenizer.encode(["", " \n"]).tolist() == [[START, END] + [0] * (LENGTH - 2)] * 2


def test_no_texts_give_no_rows(tokenizer: ClipBpeTokenizer) -> None:
    assert tokenizer.encode([]).shape == (0, LENGTH)


def test_a_model_without_a_start_has_none(merges: Path) -> None:
    (row,) = open_bpe(merges, start_id=None, pad_id=7).encode(["cat"])
    assert row.tolist() == [513, END] + [7] * (LENGTH - 2)


def test_words_that_look_like_special_pieces_are_words(merges: Path) -> None:
    tokenizer = open_bpe(merges, length=77)
    for text in ("<start_of_text>", "<end_of_text>", "<END_OF_TEXT>", "cat<end_of_text>dog"):
        row = tokenizer.encode([text])[0].tolist()
        assert row.count(START) == row.count(END) == 1
        assert row.index(END) > 7


@pytest.mark.parametrize("name", ["vocabulary.txt.gz", "merges.txt", "any.name"])
def test_an_archive_and_plain_text_are_the_same(tmp_path: Path, merges: Path, name: str) -> None:
    path = write(tmp_path / name, merges.read_text(encoding="utf-8"))
    assert (
        open_bpe(path).encode(["the cat"]).tolist() == open_bpe(merges).encode(["the cat"]).tolist()
    )


def test_lines_may_end_as_windows_ends_them(tmp_path: Path, merges: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert words(open_bpe(path), "the cat") == [517, 513]


def test_only_as_many_merges_as_the_model_learned_are_read(tmp_path: Path) -> None:
    # The archive goes on with five times as many.
    lines = ["#version: 0.2", *["c a"] * 50_000]
    opened = open_bpe(write(tmp_path / "merges.txt.gz", "\n".join(lines)), start_id=None, end_id=1)
    assert opened.vocabulary_size == 49_408


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\x1b[31m",
        "\udcff",
        "🏳️\u200d🌈" * 50,
        "שלום",
        "日本語" * 500,
        "\n",
        "x" * 10_000,
    ],
)
@pytest.mark.parametrize("rule", ["clip", "lowercase"])
def test_strange_texts_are_texts(merges: Path, text: str, rule: Canonicalization) -> None:
    (row,) = open_bpe(merges, canonicalize=rule).encode([text])
    assert row[0] == START
    assert END in row


@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=60), max_size=4))
def test_every_row_is_full_and_every_id_in_range(
    tokenizer: ClipBpeTokenizer, texts: list[str]
) -> None:
    ids = tokenizer.encode(texts)
    assert ids.shape == (len(texts), LENGTH)
    assert ids.dtype == np.int64
    assert np.all((ids >= 0) & (ids < tokenizer.vocabulary_size))
    for row in ids.tolist():
        assert row[0] == START
        assert set(row[row.index(END) + 1 :]) <= {0}


@given(st.text(max_size=60), st.text(max_size=60))
def test_rows_do_not_depend_on_their_neighbours(
    tokenizer: ClipBpeTokenizer, one: str, other: str
) -> None:
    both = tokenizer.encode([one, other])
    assert np.array_equal(both[0], tokenizer.encode([one])[0])
    assert np.array_equal(both[1], tokenizer.encode([other])[0])


def test_several_threads_share_one_tokenizer(tokenizer: ClipBpeTokenizer) -> None:
    texts = [f"cat {number} dog" for number in range(200)]
    expected = tokenizer.encode(texts).tolist()
    with ThreadPoolExecutor(4) as threads:
        rows = threads.map(lambda text: tokenizer.encode([text])[0].tolist(), texts)
    assert list(rows) == expected


# Files that are not what they should be.


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_bpe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "fetch the model again" in caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "first line"),
        (b"<html>not found</html>", "first line"),
        (b"c a\nca t</w>\n", "first line"),
        (b"\xff\xfe\x00merges", "no text"),
        (b"#version: 0.2\nc a\nno merge at all\n", "line 3 is not two pieces"),
        (b"#version: 0.2\nc a\nca\n", "line 3 is not two pieces"),
        (b"#version: 0.2\nc a\nto g</w>\n", "merge 2 is of pieces"),
        (gzip.compress(b"#version: 0.2\nc a\n" * 500, mtime=0)[:-20], "damaged archive"),
        (gzip.compress(b"#version: 0.2\nc a\n", mtime=0)[:12] + bytes(40), "damaged archive"),
        (b"\x1f\x8bnot an archive", "damaged archive"),
    ],
)
def test_a_damaged_file_is_one_error_that_says_what_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    assert reason in refused(path)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent.txt")


@pytest.mark.parametrize("key", ["pad_id", "end_id", "start_id"])
def test_special_ids_outside_the_vocabulary_are_refused(merges: Path, key: str) -> None:
    with pytest.raises(ModelError, match=f"has 521 pieces, but the model's {key} is 49407"):
        open_bpe(merges, **{key: 49_407})


# How a model's facts choose the tokenizer, and what a fresh process loads for it.


def test_the_models_facts_choose_the_tokenizer(
    tmp_path: Path, tiny_model: Path, merges: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    shutil.copy(merges, folder / "merges.txt")
    spec = load_model_folder(folder)
    text = replace(
        spec.text,
        tokenizer="clip-bpe",
        tokenizer_file="merges.txt",
        canonicalize="clip",
        pad_id=0,
        end_id=END,
        start_id=START,
    )
    opened = open_tokenizer(replace(spec, text=text))
    assert isinstance(opened, ClipBpeTokenizer)
    assert opened.length == spec.text.length
    assert opened.encode(["the cat"])[0].tolist()[:4] == [START, 517, 513, END]


def test_libraries_are_loaded_when_they_are_needed(merges: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "libraries = {'tokenizers', 'ftfy', 'sentencepiece', 'numpy'}\n"
        "import siglip_search, siglip_search.tokenizers\n"
        "assert not libraries & set(sys.modules)\n"
        "from siglip_search.tokenizers.clip_bpe import ClipBpeTokenizer\n"
        "assert not {'tokenizers', 'ftfy'} & set(sys.modules)\n"
        "ClipBpeTokenizer(Path(sys.argv[1]), canonicalize='clip', length=4, pad_id=0, end_id=1,\n"
        "                 start_id=None).encode(['cat'])\n"
        "assert libraries - {'sentencepiece'} <= set(sys.modules)\n"
        "assert 'sentencepiece' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(merges)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_question_to_the_demo_model_loads_none_of_them() -> None:
    code = (
        "import sys\n"
        "from siglip_search import demo\n"
        "from siglip_search.models.model_folder import load_model_folder\n"
        "from siglip_search.towers.text import TextTower\n"
        "TextTower(load_model_folder(demo.model_directory()), one_shot=True).embed(['a cat'])\n"
        "assert not {'tokenizers', 'ftfy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# The real vocabulary.


@pytest.fixture(scope="session")
def real_clip(shared_data: Path) -> Path:
    folder = shared_data / "tokenizer" / "clip_bpe"
    if not folder.is_dir():
        pytest.skip("the CLIP vocabulary is not here")
    return folder


@pytest.mark.shared_data
def test_ids_of_the_real_vocabulary_are_those_of_its_authors_tokenizer(real_clip: Path) -> None:
    # golden_clip_ids...: computed with openai/CLIP's simple_tokenizer.py.
    (path,) = real_clip.glob("golden_clip_ids_*.json")
    golden = json.loads(path.read_text(encoding="utf-8"))
    archive = real_clip / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    tokenizer = open_bpe(archive, length=77, start_id=49_406, end_id=49_407)
    assert tokenizer.vocabulary_size == 49_408
    for row, (text, ids) in zip(tokenizer.encode(list(golden)), golden.items(), strict=True):
        assert row.tolist() == ids + [0] * (77 - len(ids)), text


@pytest.mark.shared_data
def test_the_real_vocabulary_as_plain_text_is_the_same(real_clip: Path, tmp_path: Path) -> None:
    archive = real_clip / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(archive.read_bytes()).decode().split("\n")[1:48_895]
    path = write(tmp_path / "merges.txt", "\n".join(["#version: 0.2", *lines, ""]))
    texts = ["A photo of a cat's bicycle, 2026!", "déjà vu 日本語 🏳️\u200d🌈", "x" * 10_000]
    ids = [
        open_bpe(one, length=77, start_id=49_406, end_id=49_407).encode(texts)
        for one in (archive, path)
    ]
    assert np.array_equal(*ids)
