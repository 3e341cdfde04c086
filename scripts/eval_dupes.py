"""What `dupes` finds of edited copies, and which look-alikes it takes for copies.

    python scripts/eval_dupes.py [--photos DIR] [--most 60] [--model demo] [--csv FILE]

Originals are the drawings of the demo's gallery and, with --photos, the pictures in a folder; those
of them that are alike already are named, to be judged by eye, and left out. All are indexed with
their edits and with the look-alikes of `duplicate_material.py`, none of which is a copy. Then, for
each kind of edit, `dupes` looks at the originals and that edit of each: what counts is whether a
picture and its edit come into one group, and whether strangers do. For each kind of look-alikes it
looks at these: every pair in one group is a mistake, and a worse one where a plan would move one of
the two. Everything is seeded.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duplicate_material
from PIL import Image, ImageStat

from siglip_index import open_store
from siglip_index.records import Where
from siglip_search import demo
from siglip_search.engine.closer_look import doubtful_copies
from siglip_search.engine.duplicate_plan import plan_moves
from siglip_search.engine.duplicates import DuplicateOptions, find_duplicates
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.library import Library
from siglip_search.engine.picture_sample import folder_pictures
from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from siglip_search.engine.duplicates import DuplicateGroup, DuplicateReport

_LONGEST_SIDE = 800
_SHORTEST_SIDE = 150
_LEAST_CONTRAST = 10.0


@dataclass(frozen=True)
class Row:
    """What became of one kind of pairs.

    Attributes:
        kind: In words.
        pairs: How many.
        usual: So many came into one group.
        thorough: Likewise, with `--thorough`.
        strangers: Pairs of different origin that came into one group, in either way.
        moved: Pairs of which a plan would move one, with `--thorough`.
    """

    kind: str
    pairs: int
    usual: int
    thorough: int
    strangers: int
    moved: int


class Indexed:
    """Pictures in a library of their own, each under a name.

    Args:
        folder: Empty; everything is written there.
        pictures: By name.
        model: Name of the model.
    """

    def __init__(self, folder: Path, pictures: Mapping[str, Image.Image], model: str) -> None:
        place, library = folder / "pictures", folder / "library"
        place.mkdir()
        for name, picture in pictures.items():
            picture.save(place / f"{name}.jpg", quality=92)
        with Library(Settings(library=library, on_battery="run"), model=model) as opened:
            opened.index([place])
        self._cache = folder / "thumbnails.sqlite3"
        self._store = open_store(library, writable=False)
        (root,) = self._store.roots()
        self._ids = {
            Path(os.fsdecode(file.path)).stem: file.photo_id
            for file in self._store.files(root.id)
            if file.photo_id is not None
        }

    def close(self) -> None:
        """Release the library."""
        self._store.close()

    def twins(self, names: Iterable[str]) -> set[str]:
        """Return those that have the very bytes of one before them."""
        seen: set[int] = set()
        found = set()
        for name in names:
            if self._ids[name] in seen:
                found.add(name)
            seen.add(self._ids[name])
        return found

    def named(self, names: Iterable[str]) -> dict[int, str]:
        """Return these names by photo id; other names may have the same bytes."""
        return {self._ids[name]: name for name in names}

    def report(self, names: Iterable[str], *, thorough: bool) -> DuplicateReport:
        """Return what is found of edited copies among these pictures."""
        active = self._store.active_space()
        assert active is not None
        return find_duplicates(
            self._store,
            active.key,
            DuplicateOptions(
                kinds=("near",),
                where=Where(photo_ids=frozenset(self.named(names))),
                thorough=thorough,
                jobs=available_cores(),
                cache=self._cache,
            ),
        )


def main() -> None:
    """Evaluate, and print two tables for each set of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder of pictures beside the gallery")
    parser.add_argument("--most", type=int, default=60, help="originals of each set")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--csv", type=Path, help="also write the tables there")
    options = parser.parse_args()
    sets = {"gallery": originals(demo.gallery_directory(), options.most)}
    if options.photos is not None:
        sets["photos"] = originals(options.photos, options.most)
    written: list[tuple[str, str, Row]] = []
    for name, pictures in sets.items():
        for what, row in evaluated(name, pictures, options.model):
            written.append((name, what, row))
    if options.csv is not None:
        write_csv(options.csv, written)


def evaluated(
    name: str, pictures: Sequence[tuple[str, Image.Image]], model: str
) -> Iterator[tuple[str, Row]]:
    """Print the tables of a set, and yield their rows with what they are about."""
    material = {f"original-{number}": image for number, (_, image) in enumerate(pictures)}
    firsts = list(material)
    kinds: dict[str, list[tuple[str, str]]] = {}
    for place, (kind, edit) in enumerate(duplicate_material.EDITS.items()):
        for number, (_, image) in enumerate(pictures):
            material[f"edit-{place}-{number}"] = edit(image)
        kinds[kind] = [(first, f"edit-{place}-{n}") for n, first in enumerate(firsts)]
    alike: dict[str, list[tuple[str, str]]] = {}
    pairs = duplicate_material.look_alikes([image for _, image in pictures])
    for number, (kind, one, other) in enumerate(pairs):
        material[f"one-{number}"], material[f"other-{number}"] = one, other
        alike.setdefault(kind, []).append((f"one-{number}", f"other-{number}"))
    with tempfile.TemporaryDirectory() as folder:
        indexed = Indexed(Path(folder), material, model)
        try:
            double = indexed.twins(firsts)
            # Again and again: who is like one that was left out may be like another that was not.
            while groups := indexed.report(left := set(firsts) - double, thorough=True).groups:
                for group in _grouped_names(groups, indexed.named(left)):
                    shown = ", ".join(pictures[firsts.index(one)][0] for one in group)
                    print(f"alike already: {shown}")
                    double.update(group[1:])
            print(f"\n{name}: {len(firsts) - len(double)} originals\n")
            print("| edit | found | found, thorough | moved | strangers |")
            print("| --- | --- | --- | --- | --- |")
            for kind, edits in kinds.items():
                row = measured(indexed, kind, [pair for pair in edits if pair[0] not in double])
                usual, thorough = row.usual / row.pairs, row.thorough / row.pairs
                moved = f"{row.moved / row.pairs:.0%} | {row.strangers}"
                print(f"| {kind} | {usual:.0%} | {thorough:.0%} | {moved} |", flush=True)
                yield "edit", row
            print("\n| look-alike | pairs | taken for copies | thorough | moved | others |")
            print("| --- | --- | --- | --- | --- | --- |")
            for kind, names in alike.items():
                row = measured(indexed, kind, names)
                taken = f"{row.usual} | {row.thorough} | {row.moved} | {row.strangers}"
                print(f"| {kind} | {row.pairs} | {taken} |", flush=True)
                yield "look-alike", row
        finally:
            indexed.close()


def measured(indexed: Indexed, kind: str, pairs: Sequence[tuple[str, str]]) -> Row:
    """Return how many of the pairs came into one group, and how many others did."""
    names = [name for pair in pairs for name in pair]
    named = indexed.named(names)
    reports = [indexed.report(names, thorough=way) for way in (False, True)]
    usual, thorough = (_pairs(_grouped_names(report.groups, named)) for report in reports)
    meant = {frozenset(pair) for pair in pairs}
    return Row(
        kind,
        len(pairs),
        len(meant & usual),
        len(meant & thorough),
        len((usual | thorough) - meant),
        len(meant & _pairs(_moved(reports[1].groups, named))),
    )


def originals(folder: Path, most: int) -> list[tuple[str, Image.Image]]:
    """Return names and pixels of so many pictures of a folder that show something."""
    found = []
    for path in folder_pictures(folder):
        try:
            with open(path, "rb") as file:
                picture = decode(file, limits=DecodeLimits(), name=path).image.convert("RGB")
        except (UnreadablePictureError, OSError):
            continue
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        if min(picture.size) >= _SHORTEST_SIDE and _contrast(picture) >= _LEAST_CONTRAST:
            found.append((os.fsdecode(os.path.basename(path)), picture))
        if len(found) == most:
            break
    return found


def _grouped_names(groups: Iterable[DuplicateGroup], named: Mapping[int, str]) -> list[list[str]]:
    return [[named[member.picture.photo_id] for member in group.members] for group in groups]


def _moved(groups: Sequence[DuplicateGroup], named: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Yield the picture that a plan would keep with each that it would move for it."""
    name_of = {
        file.path: named[member.picture.photo_id]
        for group in groups
        for member in group.members
        for file in member.picture.files
    }
    doubtful = doubtful_copies(groups, limits=DecodeLimits(), jobs=available_cores())
    for row in plan_moves(groups, doubtful):
        if row.action == "move":
            best = groups[row.group - 1].members[0]
            yield named[best.picture.photo_id], name_of[row.path]


def _pairs(groups: Iterable[Sequence[str]]) -> set[frozenset[str]]:
    return {
        frozenset((first, second))
        for group in groups
        for place, first in enumerate(group)
        for second in group[place + 1 :]
    }


def _contrast(picture: Image.Image) -> float:
    return float(ImageStat.Stat(picture.convert("L")).stddev[0])


def write_csv(path: Path, rows: Iterable[tuple[str, str, Row]]) -> None:
    """Write the tables as one."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        heading = ["set", "what", "kind", "pairs", "usual", "thorough", "moved", "strangers"]
        writer.writerow(heading)
        for name, what, row in rows:
            writer.writerow(
                [
                    *(name, what, row.kind, row.pairs),
                    *(row.usual, row.thorough, row.moved, row.strangers),
                ]
            )


if __name__ == "__main__":
    sys.exit(main())
