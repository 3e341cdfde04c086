"""What must become of each file of a generated tree, and the counts that follow from it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

Fate = Literal["picture", "companion", "online-only", "ignored", "failed", "left-out", "unseen"]
"""What `index` must make of a file: ignored files are counted and left-out ones are not; what is
unseen leads nowhere, or is seen under another path, or may not be looked at."""

EXTRAS = {"raw": "rawpy", "jxl": "pillow_jxl"}
"""Extra of the package -> the module that it brings."""


@dataclass(slots=True)
class FileTruth:
    """One file.

    Attributes:
        path: Relative to the tree, "/"-separated; bytes that are no text as lone surrogates.
        fate: What must become of it.
        detail: Of a companion its kind; of a failure, words of the reason; otherwise why.
        content: SHA-256 of a picture's bytes; files of the same content are copies.
        of: Of a companion, the pictures' files that it belongs to; of a RAW that is a picture
            because the one beside it is not there or broken, that one.
        needs: The extra without which the file is ignored; or, a RAW, with what it is `of`.
        facts: What the library must know of a picture: names and values of `PhotoFacts`.
    """

    path: str
    fate: Fate
    detail: str = ""
    content: str | None = None
    of: tuple[str, ...] = ()
    needs: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Totals:
    """What `index --json` of the whole tree and then `status --json` must say.

    Attributes:
        added: Files of pictures.
        copies: Those of them whose content has another file.
        embedded: Distinct contents.
        failed: Files that claim to be pictures and cannot be read.
        ignored: Files that are no pictures.
        missing_extras: How many of the ignored would be pictures, or fail, by the extra.
        online_only: Placeholders of a cloud.
        companions: Files that belong to a picture's file.
    """

    added: int
    copies: int
    embedded: int
    failed: int
    ignored: int
    missing_extras: dict[str, int]
    online_only: int
    companions: int


@dataclass(slots=True)
class Truth:
    """A tree's truth.

    Attributes:
        seed: What its random numbers began with.
        files: Every directory entry that is no folder, in the order of making.
        not_made: What the tree lacks and why: name -> reason.
    """

    seed: int
    files: list[FileTruth] = field(default_factory=list)
    not_made: dict[str, str] = field(default_factory=dict)

    def totals(self, extras: Collection[str] | None = None) -> Totals:
        """Return the counts.

        Args:
            extras: Those that are installed; None to look.
        """
        fates = Counter(file.fate for file in self.seen_with(extras))
        there = installed_extras() if extras is None else extras
        missing = Counter(
            file.needs
            for file in self.files
            if file.fate != "companion"
            and not file.of
            and file.needs is not None
            and file.needs not in there
        )
        contents = {file.content for file in self.seen_with(extras) if file.fate == "picture"}
        return Totals(
            added=fates["picture"],
            copies=fates["picture"] - len(contents),
            embedded=len(contents),
            failed=fates["failed"],
            ignored=fates["ignored"],
            missing_extras=dict(missing),
            online_only=fates["online-only"],
            companions=fates["companion"],
        )

    def seen_with(self, extras: Collection[str] | None = None) -> Iterable[FileTruth]:
        """Yield the files as they are with these extras; None to look which are installed."""
        there = installed_extras() if extras is None else extras
        for file in self.files:
            if file.needs is None or file.needs in there:
                yield file
            elif file.fate == "picture" and file.of:
                yield FileTruth(file.path, "companion", "raw", of=file.of)
            else:
                yield FileTruth(file.path, "ignored", f"needs {file.needs}")

    def seen(self, extras: Collection[str] | None = None) -> int:
        """Return how many files a run deals with."""
        totals = self.totals(extras)
        return totals.added + totals.failed + totals.ignored + totals.companions

    def paths(self, fate: Fate, extras: Collection[str] | None = None) -> set[str]:
        """Return the relative paths of the files of one fate."""
        return {file.path for file in self.seen_with(extras) if file.fate == fate}

    def write(self, path: Path) -> None:
        """Write the truth as JSON: ASCII, a file a line."""
        files = ",\n".join(json.dumps(_without_defaults(file)) for file in self.files)
        head = {"seed": self.seed, "totals": asdict(self.totals(EXTRAS)), "not_made": self.not_made}
        text = json.dumps(head, indent=1)[:-2] + f',\n "files": [\n{files}\n]}}\n'
        path.write_text(text, encoding="ascii")


def read_truth(path: Path) -> Truth:
    """Read what `Truth.write` wrote."""
    stored = json.loads(path.read_text(encoding="ascii"))
    files = [FileTruth(**{**entry, "of": tuple(entry.get("of", ()))}) for entry in stored["files"]]
    return Truth(stored["seed"], files, stored["not_made"])


def installed_extras() -> frozenset[str]:
    """Return the extras whose modules are there."""
    return frozenset(extra for extra, module in EXTRAS.items() if find_spec(module) is not None)


def _without_defaults(file: FileTruth) -> dict[str, Any]:
    return {name: value for name, value in asdict(file).items() if value}
