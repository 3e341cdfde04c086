"""Ask for ten present and ten absent things of the gallery's world; print each answer and count.

    python scripts/eval_gallery.py [--seed N] [--queries N]

What to ask is drawn with the seed; what is right is decided by gallery.json alone. A present thing
counts as found when the first hit shows it (in the colour asked for, if one was); an absent one as
refused when nothing is returned at the model's default cut.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_search import demo
from siglip_search.engine.library import Library
from siglip_search.settings import Settings


@dataclass(frozen=True)
class Question:
    """Words, and which files of the gallery are right answers to them."""

    words: str
    right: frozenset[str]


def draw_questions(truth: dict[str, Any], number: int, seed: int) -> list[Question]:
    """Return `number` questions about present things and as many about absent ones."""
    chance = random.Random(seed)
    shown: dict[str, set[str]] = {}
    for picture in truth["pictures"]:
        if picture["colour"] == "natural":
            names = [picture["thing"]]
        else:
            names = [picture["thing"], f"{picture['colour']} {picture['thing']}"]
        names += [
            other if isinstance(other, str) else other["thing"] for other in picture["others"]
        ]
        for name in names:
            shown.setdefault(name, set()).add(picture["file"])
    present = chance.sample(sorted(shown), number)
    absent = chance.sample(sorted(truth["absent_things"]), number)
    return [Question(name, frozenset(shown[name])) for name in present] + [
        Question(name, frozenset()) for name in absent
    ]


def main() -> None:
    """Index the gallery in a temporary folder and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=10, help="of each kind")
    options = parser.parse_args()
    truth = json.loads((demo.gallery_directory() / "gallery.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        shutil.copytree(demo.gallery_directory(), pictures)
        with Library(Settings(library=Path(folder, "library")), model="demo") as library:
            library.index([pictures])
            misses = sum(
                not ask(library, pictures, question)
                for question in draw_questions(truth, options.queries, options.seed)
            )
    print(f"\n{misses} of {2 * options.queries} missed (seed {options.seed})")
    sys.exit(misses > options.queries)


def ask(library: Library, pictures: Path, question: Question) -> bool:
    """Print a question with its answer; return whether the answer is what the truth says."""
    answer = library.answer(question.words, top_k=5)
    files = [Path(hit.path).relative_to(pictures).as_posix() for hit in answer.hits]
    if question.right:
        verdict = bool(files) and files[0] in question.right
        found = f"first of {len(files)} is {files[0]}" if files else "nothing"
        among = any(file in question.right for file in files[:3])
        note = "" if verdict else f"   (among the first three: {'yes' if among else 'no'})"
    else:
        verdict = not files
        found = f"{len(files)} hits, first {files[0]}" if files else "nothing"
        note = ""
    best = answer.hits[0].probability if answer.hits else answer.best_refused
    kind = "present" if question.right else "absent "
    mark = "ok  " if verdict else "MISS"
    print(f"{mark} {kind} {question.words:20} {best or 0:7.1%}  {found}{note}")
    return verdict


if __name__ == "__main__":
    main()
