"""Write tests/golden/tokenizers: the references' ids, for the suite that runs without them.

    python scripts/make_tokenizer_goldens.py

The vocabularies are trained here, small, on strings that are drawn here; what the references make
of other strings is stored beside them. They are transformers' SiglipTokenizer (SigLIP and its
multilingual kind), big_vision's SigLIP 2 rule carried out with SentencePiece alone, and open_clip's
SimpleTokenizer. `tests/reference` takes the same functions to compare thousands of strings.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import random
import sys
import tempfile
import unicodedata
from collections import Counter
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

GOLDEN: Final = Path(__file__).resolve().parents[1] / "tests" / "golden" / "tokenizers"
SEED: Final = 20261121
TEXTS: Final = 150
LENGTH: Final = 24
"""Ids per text in the golden files: short, so that many texts are cut."""

# Separated by white space: words of all kinds, and what looks like words.
_WRITTEN: Final = """
a photo of the red bicycle dog's it's they'll we've I'M DON'T you're he'd '' ' s
Café ÉCOLE Straße naïve \ufb01nger ΟΔΟΣ İstanbul москва КОШКА שלום مرحبا नमस्ते สวัสดี
안녕하세요 日本語 写真 \uff46\uff55\uff4c\uff4c Ⅷ ½ x² №5 2026 3.14 1,000 snake_case
e-mail@example.org #tag &amp; &lt;b&gt; &amp;amp;lt; &#x27; &nbsp; <html> </a> ▁
Ã©tÃ© â€œquotedâ€\x9d “curly” it\u2019s '\u017f … — !? ... ''' 🏳️\u200d🌈 🇩🇪 ❤️
"""
WORDS: Final = (
    *_WRITTEN.split(),
    *("👩\u200d👩\u200d👧", "\x1b[31m", "\0", "\x07", "\x7f", "\u200b", "\u200e", "\u202e"),
    *("\ufeff", "\ufffd", "\u0301", "\u0345", "\u017f"),
)
SPACES: Final = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"

# Assigned long ago: which letters there are depends on each library's edition of Unicode.
BLOCKS: Final = (
    *((0x00, 0x7F), (0x20, 0x7E), (0x41, 0x7A), (0x80, 0x24F), (0x250, 0x36F), (0x370, 0x3FF)),
    *((0x400, 0x4FF), (0x5D0, 0x5EA), (0x600, 0x6FF), (0x905, 0x94D), (0xE01, 0xE3A)),
    *((0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x208E), (0x2100, 0x214F), (0x2190, 0x21FF)),
    *((0x2460, 0x24FF), (0x2600, 0x26FF), (0x3041, 0x3096), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3)),
    *((0xE000, 0xE0FF), (0xFB00, 0xFB06), (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0xFFF9, 0xFFFF)),
    *((0x10400, 0x1044F), (0x1D400, 0x1D454), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F)),
    *((0x20000, 0x2A6D6), (0xE0020, 0xE007F), (0xF0000, 0xF00FF)),
)

EDGES: Final = (
    *("", " ", "\n\n", "\0", "a\0b", "!", "!!!", "...", "-_-", "'", "'s", " 's", "''s", "a's"),
    *("A DOG, a cat!", "snow\u00a0man", "\u3000", "\u200b", "▁", "a▁b", "▁ a", "a ▁"),
    *("x" * 300, "!" * 300, "7" * 100, "ab " * 200, "é" * 100, "❤️" * 40, "日本語" * 60),
    *("שלום " * 50, "a" * 10_000, "word " * 2_000, "\ufffd" * 50, " " * 10_000),
)

LONE_SURROGATES: Final = ("\ud800", "a\udcffb", "\udcc3\udca9", "\ude00\ud83d", "x \udfff y")
"""Not text: what Python makes of bytes that are not UTF-8. Only CLIP's rule says what they are."""


def texts(count: int, *, seed: int) -> list[str]:
    """Return `count` strings of all kinds, edges first; none spells a special piece."""
    chance = random.Random(seed)
    drawn = list(EDGES[:count])
    while len(drawn) < count:
        kind = chance.random()
        if kind < 0.6:
            parts = chance.choices(WORDS, k=chance.randint(1, 14))
            text = "".join(part + _gap(chance) for part in parts)
        elif kind < 0.8:
            text = "".join(_characters(chance, chance.randint(1, 12)) for _ in range(4))
        else:
            text = " ".join(
                _characters(chance, chance.randint(1, 8)) for _ in range(chance.randint(1, 8))
            )
        drawn.append(text)
    return drawn


def _gap(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.7:
        return " "
    return chance.choice(SPACES) * chance.randint(1, 3) if kind < 0.85 else ""


def _characters(chance: random.Random, count: int) -> str:
    low, high = chance.choice(BLOCKS)
    return "".join(chr(chance.randint(low, high)) for _ in range(count))


def train_siglip(seed: int, *, small: bool = False) -> bytes:
    """Return a SentencePiece model in the shape of c4_en: padding 0, end 1, unknown 2.

    The rules of c4_en's normalization (`nmt_nfkc`) are 240 kB; `small` takes a few of them.
    """
    return _train(seed, model_type="unigram", small_rules=small, **_T5_IDS)


def train_siglip_i18n(seed: int, *, small: bool = False) -> bytes:
    """Return one in the shape of mC4: bytes for what is unknown, and pieces nobody writes."""
    return _train(
        seed,
        model_type="unigram",
        small_rules=small,
        byte_fallback=True,
        user_defined_symbols=["▁<extra_id_1>", "▁<extra_id_0>"],
        **_T5_IDS,
    )


def train_siglip2(seed: int) -> bytes:
    """Return one in the shape of Gemma: byte pairs, digits apart, white space as it is."""
    return _train(
        seed,
        model_type="bpe",
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
    )


_T5_IDS: Final[dict[str, Any]] = {
    "pad_id": 0,
    "eos_id": 1,
    "unk_id": 2,
    "bos_id": -1,
    "pad_piece": "<pad>",
}


def _train(seed: int, *, small_rules: bool = False, **options: Any) -> bytes:
    import sentencepiece

    serialized = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        if small_rules:
            Path(folder, "rules.tsv").write_text(_small_rules(), encoding="ascii")
            options["normalization_rule_tsv"] = "rules.tsv"
        # The model keeps the file's name, which must not be one of this machine's folders.
        with contextlib.chdir(folder):
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(_sentences(seed)),
                model_writer=serialized,
                vocab_size=700,
                hard_vocab_limit=False,
                character_coverage=0.98,
                num_threads=1,
                minloglevel=2,
                **options,
            )
    return serialized.getvalue()


def _small_rules() -> str:
    """Return white space, SentencePiece's own sign for it, ligatures and wide letters."""
    rules = dict.fromkeys([*SPACES[1:], "▁"], " ")
    for character in map(chr, [*range(0xFB00, 0xFB07), *range(0xFF01, 0xFF5F)]):
        rules[character] = unicodedata.normalize("NFKC", character)
    return "".join(
        f"{ord(one):X}\t{' '.join(f'{ord(part):X}' for part in other)}\n"
        for one, other in sorted(rules.items())
    )


def _sentences(seed: int) -> list[str]:
    chance = random.Random(seed)
    everyday = [word for word in WORDS if word.isprintable() and "&" not in word]
    lines = (" ".join(chance.choices(everyday, k=chance.randint(1, 9))) for _ in range(1_500))
    return [line.lower() for line in lines]


def train_merges(seed: int, count: int = 700) -> list[str]:
    """Return byte-pair merges, each a line of a merges file: the most frequent pair comes next."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = ByteLevel(add_prefix_space=False, use_regex=False)
    texts = Counter(word for line in _sentences(seed) for word in line.split())
    spelled = {word: list(alphabet.pre_tokenize_str(word)[0][0]) for word in texts}
    words = [([*symbols[:-1], f"{symbols[-1]}</w>"], texts[w]) for w, symbols in spelled.items()]
    merges: list[str] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, times in words:
            for pair in pairwise(symbols):
                pairs[pair] += times
        if not pairs:
            break
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(f"{left} {right}")
        for symbols, _ in words:
            for place in range(len(symbols) - 1, 0, -1):
                if symbols[place - 1 : place + 1] == [left, right]:
                    symbols[place - 1 : place + 1] = [left + right]
    return merges


def write_merges(path: Path, merges: Iterable[str]) -> Path:
    """Write the archive that open_clip reads; it takes an empty last line for another piece."""
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges]).encode(), mtime=0))
    return path


def siglip_reference(model: bytes, strings: Sequence[str], length: int) -> list[list[int]]:
    """Return transformers' SiglipTokenizer's ids, loaded from a folder."""
    from transformers import SiglipTokenizer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spiece.model").write_bytes(model)
        tokenizer = SiglipTokenizer.from_pretrained(folder)
    encoded = tokenizer(list(strings), padding="max_length", truncation=True, max_length=length)
    return [list(map(int, row)) for row in encoded["input_ids"]]


def siglip2_reference(
    model: bytes, strings: Sequence[str], length: int, *, lower: Callable[[str], str] = str.lower
) -> list[list[int]]:
    """Return big_vision's ids for SigLIP 2: `lower|tok(model="gemma", bos="no", eos="sticky")`.

    By default all letters are lower-cased, not ASCII's alone: docs/preprocessing.md tells why.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    rows = []
    for text in strings:
        ids = [*processor.EncodeAsIds(lower(text)), processor.eos_id()]
        ids = [*ids[: length - 1], ids[-1]] if len(ids) > length else ids
        rows.append(ids + [processor.pad_id()] * (length - len(ids)))
    return rows


def clip_reference(merges: Path, strings: Sequence[str], length: int) -> list[list[int]]:
    """Return open_clip's SimpleTokenizer's ids."""
    define_missing_operators()
    from open_clip.tokenizer import SimpleTokenizer

    rows = SimpleTokenizer(bpe_path=str(merges))(list(strings), context_length=length)
    return [list(map(int, row)) for row in rows]


def define_missing_operators() -> None:
    """Let open_clip be imported where torchvision was built for another kind of torch."""
    import torch

    try:
        torch.ops.torchvision.nms  # noqa: B018
    except AttributeError:
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )


def main() -> None:
    """Write the four files."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    strings = [text[:400] for text in texts(TEXTS, seed=SEED)]
    for name, model, reference, packages in (
        ("siglip", train_siglip(SEED, small=True), siglip_reference, ["transformers"]),
        (
            "siglip_i18n",
            train_siglip_i18n(SEED, small=True),
            siglip_reference,
            ["transformers"],
        ),
        ("siglip2", train_siglip2(SEED), siglip2_reference, []),
    ):
        ids = reference(model, strings, LENGTH)
        vocabulary = {"model_base64": base64.b64encode(model).decode()}
        _write(name, reference, [*packages, "sentencepiece"], vocabulary, strings, ids)
    merges = train_merges(SEED)
    strings = [*LONE_SURROGATES, *strings]
    with tempfile.TemporaryDirectory() as folder:
        path = write_merges(Path(folder, "merges.txt.gz"), merges)
        ids = clip_reference(path, strings, LENGTH)
    packages = ["open_clip_torch", "ftfy", "regex"]
    _write("clip", clip_reference, packages, {"merges": merges}, strings, ids)


def _write(
    name: str,
    reference: Any,
    packages: Sequence[str],
    vocabulary: dict[str, Any],
    strings: Sequence[str],
    ids: Sequence[Sequence[int]],
) -> None:
    golden = {
        "made_by": "python scripts/make_tokenizer_goldens.py",
        "reference": reference.__doc__.splitlines()[0],
        "versions": {package: version(package) for package in packages},
        "seed": SEED,
        "length": LENGTH,
        **vocabulary,
    }
    head = json.dumps(golden, indent=1)[:-2]
    rows = ",\n".join(
        f"  {json.dumps([text, list(row)], separators=(',', ':'))}"
        for text, row in zip(strings, ids, strict=True)
    )
    content = f'{head},\n "ids": [\n{rows}\n ]\n}}\n'
    assert json.loads(content)["ids"]
    (GOLDEN / f"{name}.json").write_text(content, encoding="ascii")
    print(f"{name}.json: {len(content) / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
