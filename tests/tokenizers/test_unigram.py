"""Texts become ids of fixed length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.errors import ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.tokenizers import open_tokenizer
from siglip_search.tokenizers.unigram import UnigramTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import Canonicalization

LENGTH = 16


@pytest.fixture(scope="session")
def pieces(tiny_model: Path) -> Path:
    return tiny_model / "tokenizer.model"


@pytest.fixture(scope="session")
def tokenizer(pieces: Path) -> UnigramTokenizer:
    return open_unigram(pieces)


def open_unigram(
    path: Path,
    *,
    canonicalize: Canonicalization = "lowercase-no-punctuation",
    length: int = LENGTH,
    pad_id: int = 1,
    end_id: int = 1,
    start_id: int | None = None,
) -> UnigramTokenizer:
    return UnigramTokenizer(
        path,
        canonicalize=canonicalize,
        length=length,
        pad_id=pad_id,
        end_id=end_id,
        start_id=start_id,
    )


def test_a_text_is_its_pieces_an_end_and_padding(pieces: Path, tokenizer: UnigramTokenizer) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    expected = processor.encode("a red cat")
    (row,) = tokenizer.encode(["A red, CAT!"])
    assert row.dtype == np.int64
    assert row.tolist() == expected + [1] * (LENGTH - len(expected))


def test_padding_and_end_are_told_apart(pieces: Path) -> None:
    (row,) = open_unigram(pieces, pad_id=0).encode(["cat"])
    ids = row.tolist()
    end = ids.index(1)
    assert 0 not in ids[:end]
    assert set(ids[end + 1 :]) == {0}


def test_a_long_text_is_cut_and_still_ends(pieces: Path, tokenizer: UnigramTokenizer) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    text = "blue boat " * 1000
    (row,) = tokenizer.encode([text])
    assert row.tolist() == [*processor.encode(text.strip())[: LENGTH - 1], 1]


def test_a_model_with_a_start_opens_every_text_with_it(
    pieces: Path, tokenizer: UnigramTokenizer
) -> None:
    opened = open_unigram(pieces, start_id=2)
    for text in ("cat", "", "blue boat " * 1000):
        without = tokenizer.encode([text])[0].tolist()
        expected = [2, *without[:-1]] if without[-2] == 1 else [2, *without[: LENGTH - 2], 1]
        assert opened.encode([text])[0].tolist() == expected


def test_an_empty_text_is_an_end_and_padding(tokenizer: UnigramTokenizer) -> None:
    assert tokenizer.encode([""]).tolist() == [[1] * LENGTH]


def test_no_texts_give_no_rows(tokenizer: UnigramTokenizer) -> None:
    assert tokenizer.encode([]).shape == (0, LENGTH)


def test_words_that_look_like_control_pieces_are_words(pieces: Path) -> None:
    tokenizer = open_unigram(pieces, canonicalize="lowercase")
    for text in ("</s>", "<unk>", "<pad>"):
        (row,) = tokenizer.encode([f"cat {text} boat"])
        words = row.tolist()[: row.tolist().index(1)]
        # Were it taken for the control piece, there would be one id between the two words.
        assert len(words) > len(tokenizer.encode(["cat boat"])[0].tolist()[:3])
        assert 1 not in words
        assert 0 not in words


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\x1b[31m",
        "\udcff",
        "🏳️‍🌈" * 50,
        "שלום עולם",
        "日本語" * 500,
        "\n\n",
        "x" * 10_000,
    ],
)
def test_strange_texts_are_texts(tokenizer: UnigramTokenizer, text: str) -> None:
    ids = tokenizer.encode([text])
    assert ids.shape == (1, LENGTH)
    assert 1 in ids[0]


@given(st.lists(st.text(max_size=60), max_size=4))
def test_every_row_is_full_and_every_id_in_range(
    tokenizer: UnigramTokenizer, texts: list[str]
) -> None:
    ids = tokenizer.encode(texts)
    assert ids.shape == (len(texts), LENGTH)
    assert ids.dtype == np.int64
    assert np.all((ids >= 0) & (ids < tokenizer.vocabulary_size))
    for row in ids:
        assert 1 in row


@given(st.text(max_size=60), st.text(max_size=60))
def test_rows_do_not_depend_on_their_neighbours(
    tokenizer: UnigramTokenizer, one: str, other: str
) -> None:
    both = tokenizer.encode([one, other])
    assert np.array_equal(both[0], tokenizer.encode([one])[0])
    assert np.array_equal(both[1], tokenizer.encode([other])[0])


def test_the_models_facts_are_used(tiny_model: Path) -> None:
    spec = load_model_folder(tiny_model)
    opened = open_tokenizer(spec)
    assert opened.length == spec.text.length == LENGTH
    assert opened.vocabulary_size > 50
    assert opened.encode(["a cat"]).shape == (1, LENGTH)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(100)])
def test_a_damaged_tokenizer_is_one_error_and_prints_nothing(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a SentencePiece model") as caught:
        open_unigram(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_missing_tokenizer_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        open_unigram(tmp_path / "absent.model")


@pytest.mark.parametrize("key", ["pad_id", "end_id", "start_id"])
def test_special_ids_outside_the_vocabulary_are_refused(pieces: Path, key: str) -> None:
    with pytest.raises(ModelError, match=f"{key} is 49407"):
        open_unigram(pieces, **{key: 49_407})


# Ids of the Gemma vocabulary that SigLIP 2 uses, as published by others: Keras Hub's and several
# ports' own tests of `google/siglip2-*` ("a photo of a cat" and the rest), without bos and eos.
PUBLISHED_GEMMA_IDS = [
    ("a photo of a cat", [235250, 2686, 576, 476, 4401]),
    ("a photo of a kitchen.", [235250, 2686, 576, 476, 8926, 235265]),
    ("a photo of a dog.", [235250, 2686, 576, 476, 5929, 235265]),
    ("hello world", [17534, 2134]),
    ("12345", [235274, 235284, 235304, 235310, 235308]),
    ("bride with bouquet", [57928, 675, 42783]),
    ("café crème", [81453, 60750]),
    ("ijsje 🍦", [72873, 1792, 235248, 244567]),
    ("zwei kinder spielen am strand", [131201, 42900, 63859, 1144, 40672]),
    ("🐶 dog", [241878, 5929]),
]


@pytest.mark.shared_data
def test_siglip2_ids_are_the_published_ones(shared_data: Path) -> None:
    path = shared_data / "tokenizer" / "siglip2_gemma" / "gemma_256k_rebuilt.model"
    if not path.is_file():
        pytest.skip("the Gemma vocabulary is not here")
    tokenizer = open_unigram(path, canonicalize="lowercase", length=64, pad_id=0, end_id=1)
    assert tokenizer.vocabulary_size == 256_000
    rows = tokenizer.encode([text.title() for text, _ in PUBLISHED_GEMMA_IDS])
    for row, (text, ids) in zip(rows, PUBLISHED_GEMMA_IDS, strict=True):
        assert row.tolist() == [*ids, 1] + [0] * (63 - len(ids)), text
