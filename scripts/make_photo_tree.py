"""Make a tree of pictures and of what lies about among pictures, with its truth.

    python scripts/make_photo_tree.py FOLDER                     20,000 files
    python scripts/make_photo_tree.py FOLDER --files 600 --seed 7

FOLDER gets Pictures, the tree; Elsewhere, a folder to which a link in the tree leads; and
truth.json: for each file what `siglip-search index Pictures` must make of it, what the library must
then know of it, and the totals. One seed makes the same files again on the same kind of file
system, with the same versions of the libraries that encode. What cannot be made is named in the
truth under "not_made".

The pictures are small and of random colours. Cameras' own RAW formats but for DNG are not public;
a TIFF in Nikon's arrangement stands in for NEF.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from photo_tree.formats import orientations, rare_formats
from photo_tree.occasions import fill
from photo_tree.oddities import add_all
from photo_tree.stacks import stacks
from photo_tree.strange_names import strange_names
from photo_tree.tree import Tree

if TYPE_CHECKING:
    from photo_tree.truth import Truth

PICTURES, ELSEWHERE, TRUTH = "Pictures", "Elsewhere", "truth.json"

DEFAULT_FILES = 20_000


def make(folder: Path, *, files: int, seed: int) -> Truth:
    """Make the tree and write its truth.

    Args:
        folder: Must not be there, or be empty.
        files: How many; more, when the odd ones alone are more.
        seed: What the random numbers begin with.
    """
    tree = Tree(folder / PICTURES, seed)
    rare_formats(tree)
    orientations(tree)
    strange_names(tree)
    stacks(tree)
    add_all(tree, folder / ELSEWHERE)
    fill(tree, files)
    tree.truth.write(folder / TRUTH)
    return tree.truth


def main() -> None:
    """Make what was asked for and say what it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new, or empty")
    parser.add_argument("--files", type=int, default=DEFAULT_FILES, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args()
    if options.folder.exists() and (not options.folder.is_dir() or os.listdir(options.folder)):
        sys.exit(f"{options.folder} is there already and not empty: name a new folder")
    started = time.monotonic()
    truth = make(options.folder, files=options.files, seed=options.seed)
    fates = Counter(file.fate for file in truth.files)
    for fate, number in fates.most_common():
        print(f"{number:8,}  {fate}")
    for name, reason in truth.not_made.items():
        print(f"not made: {name}: {reason}")
    print(f"{len(truth.files):,} files in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
