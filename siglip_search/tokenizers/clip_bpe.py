"""CLIP's byte-pair encoding, opened from its list of merges."""

from __future__ import annotations

import gzip
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.tokenizers.canonicalize import canonicalize as canonical_form
from siglip_search.tokenizers.vocabulary import check_special_ids, fill_row, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.spec import Canonicalization

_GZIP_SIGNATURE: Final = b"\x1f\x8b"

# What both kinds of file have in their first line: the original's archive and `merges.txt`.
_HEADER_MARK: Final = "#version"

_END_OF_WORD: Final = "</w>"
_SPECIAL_PIECES: Final = 2  # <start_of_text> and <end_of_text>, behind all others

# The archive lists 262,144 merges, of which the model learned the first: 49,152 = 256 byte
# symbols, 256 that end a word, and the merges, where two merges made room for the special pieces.
_MERGES_USED: Final = 49_152 - 256 - _SPECIAL_PIECES

# An English ending, a word, a digit, or a run of everything else; white space only separates. The
# reference's pattern ignores case, which in lower-cased text concerns two characters: the long s
# (U+017F) counts as "s", and the combining iota (U+0345), no letter but a case of one, vanishes.
_WORD: Final = r"'(?:[s\x{017F}tmd]|re|ve|ll)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{0345}]+"


class ClipBpeTokenizer:
    """CLIP's byte-pair encoding with a fixed output length (open_clip's `SimpleTokenizer`).

    Thread-safe once it is open.
    """

    def __init__(
        self,
        path: Path,
        *,
        canonicalize: Canonicalization,
        length: int,
        pad_id: int,
        end_id: int,
        start_id: int | None,
    ) -> None:
        """Open the merges at `path`.

        Args:
            path: `bpe_simple_vocab_16e6.txt.gz`, or a plain `merges.txt`.
            canonicalize: What is done to the words first.
            length: Number of ids per text, >= 1.
            pad_id: Fills up to `length` on the right.
            end_id: Closes every text, also one that was cut.
            start_id: Opens every text; None for a model without one.

        Raises:
            ModelError: If the file holds no such merges, or `pad_id`, `end_id` or `start_id` is
                not in the vocabulary that follows from them.
        """
        merges = _read_merges(path)
        vocabulary = _vocabulary(merges, path)
        self._vocabulary_size = 2 * 256 + len(merges) + _SPECIAL_PIECES
        check_special_ids(path, self._vocabulary_size, pad_id, end_id, start_id)
        self._encoder = _open_encoder(vocabulary, merges)
        self._canonicalize: Canonicalization = canonicalize
        self._length = length
        self._pad_id = pad_id
        self._end_id = end_id
        self._start_id = start_id

    @property
    def length(self) -> int:
        """Number of ids per text."""
        return self._length

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, the two special ones included; every id is below it."""
        return self._vocabulary_size

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of `texts`, shape (n, length).

        Each row is `start_id` if there is one, the text's ids as far as they fit, `end_id`, then
        `pad_id` to the end. Words that look like special pieces ("<end_of_text>") are words,
        unlike in the reference, where they would end the text in its middle.
        """
        rows = np.full((len(texts), self._length), self._pad_id, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            words = without_surrogates(canonical_form(text, self._canonicalize))
            fill_row(row, self._encoder.encode(words).ids, self._end_id, self._start_id)
        return rows


def _open_encoder(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    encoder = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_END_OF_WORD))
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # "removed" and inverted: what the pattern does not match, white space, goes.
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return encoder


def _vocabulary(merges: list[tuple[str, str]], path: Path) -> dict[str, int]:
    """Return the id of every piece that words are made of.

    Bytes come first, then bytes that end a word, then what the merges make, in their order.
    """
    symbols = _byte_symbols()
    pieces = [*symbols, *(symbol + _END_OF_WORD for symbol in symbols)]
    ids = {piece: number for number, piece in enumerate(pieces)}
    for number, (left, right) in enumerate(merges):
        if left not in ids or right not in ids:
            raise _not_merges(path, f"its merge {number + 1} is of pieces that do not come before")
        # A piece that two merges make keeps the id of the later, as in the reference.
        ids[left + right] = len(pieces) + number
    return ids


def _byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte, in the order of their ids.

    GPT-2's alphabet: Latin-1's visible characters stand for themselves and come first, the other
    68 bytes follow as the characters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(visible)
    return [chr(code) for code in visible] + [chr(256 + number) for number in range(others)]


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open("rb") as plain:
            packed = plain.read(len(_GZIP_SIGNATURE)) == _GZIP_SIGNATURE
        with gzip.open(path) if packed else path.open("rb") as stream:
            # Lines end with "\n" alone: some of the symbols would count as line ends, too.
            lines = [line.decode() for line in islice(stream, 1 + _MERGES_USED)]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _not_merges(path, f"it is a damaged archive ({error})") from error
    except UnicodeDecodeError as error:
        raise _not_merges(path, "it is no text") from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the file or fetch the model again.",
        ) from error
    if not lines or _HEADER_MARK not in lines[0]:
        raise _not_merges(path, f"its first line does not say {_HEADER_MARK}")
    merges = []
    for number, line in enumerate(lines[1:], start=2):
        match line.split():
            case [left, right]:
                merges.append((left, right))
            case []:
                continue  # the last line of a file that ends with an empty one
            case _:
                raise _not_merges(path, f"its line {number} is not two pieces")
    return merges


def _not_merges(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path} is not a list of byte-pair merges: {reason}",
        hint="The file is damaged or of another kind: fetch the model again.",
    )
