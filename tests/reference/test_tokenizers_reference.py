"""Ids against the references', string by string, with vocabularies that are trained here."""

from __future__ import annotations

import gzip
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from siglip_search.tokenizers.clip_bpe import ClipBpeTokenizer
from siglip_search.tokenizers.unigram import UnigramTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from siglip_search.models.spec import Canonicalization

pytestmark = pytest.mark.reference

STRINGS = 4_000
SEEDS = [1, 2]


@pytest.fixture(autouse=True)
def _references_may_warn() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def differences(
    strings: Sequence[str], ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]
) -> list[tuple[str, list[int], list[int]]]:
    """Return the first strings whose ids differ, with both."""
    assert len(ours) == len(theirs) == len(strings)
    found = (
        (text[:80], list(one), list(other))
        for text, one, other in zip(strings, ours, theirs, strict=True)
        if list(one) != list(other)
    )
    return list(islice(found, 5))


def open_unigram(
    folder: Path, model: bytes, *, rule: Canonicalization, length: int, pad_id: int
) -> UnigramTokenizer:
    path = folder / "tokenizer.model"
    path.write_bytes(model)
    return UnigramTokenizer(path, canonicalize=rule, length=length, pad_id=pad_id, end_id=1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", [64, 16])
@pytest.mark.parametrize("kind", ["siglip", "siglip_i18n"])
def test_siglip_ids_are_those_of_transformers(
    goldens: ModuleType, tmp_path: Path, kind: str, length: int, seed: int
) -> None:
    model = getattr(goldens, f"train_{kind}")(seed)
    strings = goldens.texts(STRINGS, seed=seed)
    ours = open_unigram(
        tmp_path, model, rule="lowercase-no-punctuation", length=length, pad_id=1
    ).encode(strings)
    theirs = goldens.siglip_reference(model, strings, length)
    assert differences(strings, ours.tolist(), theirs) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_siglip2_ids_are_those_of_big_visions_rule(
    goldens: ModuleType, tmp_path: Path, seed: int
) -> None:
    model = goldens.train_siglip2(seed)
    strings = goldens.texts(STRINGS, seed=seed)
    ours = open_unigram(tmp_path, model, rule="lowercase", length=64, pad_id=0).encode(strings)
    theirs = goldens.siglip2_reference(model, strings, 64)
    assert differences(strings, ours.tolist(), theirs) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_siglip2_pieces_are_those_of_transformers_gemma(
    goldens: ModuleType, tmp_path: Path, seed: int
) -> None:
    # Another implementation of the same pieces. It keeps the case and pads on the left, so the
    # words are lowered before and the row is filled here.
    from transformers import GemmaTokenizer

    model = goldens.train_siglip2(seed)
    strings = goldens.texts(STRINGS, seed=seed)
    ours = open_unigram(tmp_path, model, rule="lowercase", length=64, pad_id=0).encode(strings)
    gemma = GemmaTokenizer.from_pretrained(str(tmp_path))
    theirs = []
    for text in strings:
        ids = gemma(text.lower(), add_special_tokens=False)["input_ids"][:63]
        theirs.append([*ids, 1] + [0] * (63 - len(ids)))
    assert differences(strings, ours.tolist(), theirs) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", [77, 8])
def test_clip_ids_with_trained_merges_are_those_of_open_clip(
    goldens: ModuleType, tmp_path: Path, length: int, seed: int
) -> None:
    merges = goldens.train_merges(seed)
    path = goldens.write_merges(tmp_path / "merges.txt.gz", merges)
    strings = [*goldens.LONE_SURROGATES, *goldens.texts(STRINGS, seed=seed)]
    ours = open_clip_bpe(path, merges=len(merges), length=length).encode(strings)
    theirs = goldens.clip_reference(path, strings, length)
    assert differences(strings, ours.tolist(), theirs) == []


def open_clip_bpe(path: Path, *, merges: int = 48_894, length: int = 77) -> ClipBpeTokenizer:
    return ClipBpeTokenizer(
        path,
        canonicalize="clip",
        length=length,
        pad_id=0,
        start_id=512 + merges,
        end_id=513 + merges,
    )


@pytest.fixture(scope="session")
def real_merges() -> Path:
    """The list of merges that comes with open_clip, the one of every published CLIP."""
    from open_clip.tokenizer import default_bpe

    return Path(default_bpe())


@pytest.mark.parametrize("seed", SEEDS)
def test_clip_ids_with_the_real_merges_are_those_of_open_clip(
    goldens: ModuleType, real_merges: Path, seed: int
) -> None:
    strings = [*goldens.LONE_SURROGATES, *goldens.texts(STRINGS, seed=seed)]
    tokenizer = open_clip_bpe(real_merges)
    theirs = goldens.clip_reference(real_merges, strings, 77)
    assert tokenizer.vocabulary_size == 49_408
    assert differences(strings, tokenizer.encode(strings).tolist(), theirs) == []


def test_every_piece_of_the_real_vocabulary_is_cut_as_open_clip_does(
    goldens: ModuleType, real_merges: Path
) -> None:
    # Every merge once as a word of its own and once inside another: 97,788 words.
    with gzip.open(real_merges, "rt", encoding="utf-8", newline="\n") as stream:
        merges = [line.split() for line in islice(stream, 1, 48_895)]
    symbols = {symbol: byte for byte, symbol in byte_symbols().items()}
    strings = []
    for left, right in merges:
        piece = (left + right).removesuffix("</w>")
        text = bytes(symbols[symbol] for symbol in piece).decode("utf-8", "ignore")
        strings.append(f"{text} x{text}y")
    ours = open_clip_bpe(real_merges).encode(strings)
    theirs = goldens.clip_reference(real_merges, strings, 77)
    assert differences(strings, ours.tolist(), theirs) == []


def byte_symbols() -> dict[int, str]:
    from open_clip.tokenizer import bytes_to_unicode

    symbols: dict[int, str] = bytes_to_unicode()
    return symbols


# Where the references and this project part, on purpose: docs/preprocessing.md tells why.


@pytest.mark.parametrize("text", ["a <end_of_text> b", "<start_of_text>", "A <END_OF_TEXT> B"])
def test_open_clip_takes_a_written_special_piece_for_one_and_we_do_not(
    goldens: ModuleType, real_merges: Path, text: str
) -> None:
    special = {49_406, 49_407}
    (theirs,) = goldens.clip_reference(real_merges, [text], 77)
    (ours,) = open_clip_bpe(real_merges).encode([text]).tolist()
    assert sum(number in special for number in theirs) == 3
    assert sum(number in special for number in ours) == 2


@pytest.mark.parametrize("text", ["a </s> b", "a <unk> b"])
def test_transformers_takes_a_written_special_piece_for_one_and_we_do_not(
    goldens: ModuleType, tmp_path: Path, text: str
) -> None:
    model = goldens.train_siglip(1)
    tokenizer = open_unigram(tmp_path, model, rule="lowercase-no-punctuation", length=16, pad_id=1)
    (theirs,) = goldens.siglip_reference(model, [text], 16)
    (ours,) = tokenizer.encode([text]).tolist()
    assert ours != theirs
    # What we do is what the rule says: the marks go, the letters stay.
    assert ours == tokenizer.encode([text.replace("<", "").replace(">", "")])[0].tolist()


def test_big_vision_lowers_the_letters_of_ascii_and_we_lower_all(
    goldens: ModuleType, tmp_path: Path
) -> None:
    def lower_ascii(text: str) -> str:
        """What TensorFlow's strings.lower does without an encoding, as big_vision calls it."""
        return text.encode().lower().decode()

    model = goldens.train_siglip2(1)
    tokenizer = open_unigram(tmp_path, model, rule="lowercase", length=16, pad_id=0)
    for text, same in (("A Red DOG", True), ("Café", True), ("ÉCOLE", False), ("КОШКА", False)):
        (theirs,) = goldens.siglip2_reference(model, [text], 16, lower=lower_ascii)
        assert (tokenizer.encode([text])[0].tolist() == theirs) is same, text
