"""Measure what --plus and --minus do: where to cut a sum of texts, and what a text needs to weigh.

    python scripts/eval_arithmetic.py [--galleries N] [--seed N]

First: simulated galleries of training-side scenes are asked for a thing plus or minus a colour or
a place. What is shown if the cut is on the sum's own probability, and if it is on that of the
words? Second: the bundled gallery is asked with every third of its pictures and a place where it
was not drawn. How often do the best three show the place? Needs the fonts that
eval_demo_model.py needs.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from demo_model.captions import name_thing, truths
from demo_model.evaluation import Model, draw
from demo_model.scenes import Art, sample_scene
from demo_model.world import COLOUR_NAMES, PLACE_NAMES, PLACES, THINGS
from PIL import Image
from pillow_heif import register_heif_opener

from siglip_search import demo
from siglip_search.engine.calibrations import shipped_calibration
from siglip_search.models.model_folder import load_model_folder
from siglip_search.search.arithmetic import direction_of
from siglip_search.search.background import background_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIZE = 120
QUESTIONS = 40
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 5.0)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galleries", type=int, default=10)
    parser.add_argument("--seed", type=int, default=8104, help="none that evaluation.toml names")
    options = parser.parse_args()
    model = Model(demo.model_directory())
    print_cuts(model, options.seed, options.galleries)
    print_weights(model)


def print_cuts(model: Model, seed: int, galleries: int) -> None:
    """Print what both cuts show, by the kind of question."""
    calibration = shipped_calibration(load_model_folder(demo.model_directory()))
    assert calibration is not None
    shown: dict[str, list[list[NDArray[np.bool_]]]] = defaultdict(list)
    for kind, words, direction, vectors, holds in questions(model, seed, galleries):
        chances = [
            calibration.probabilities(cosines, background_from(cosines))
            for cosines in (vectors @ direction, vectors @ words)
        ]
        # What may or may not hold the thing is no evidence.
        clear = holds != 0.5
        shown[kind].append(
            [*(clear & (chance >= calibration.cut) for chance in chances), holds == 1]
        )
    print("| question | number | cut on the sum | | cut on the words | |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, rows in sorted(shown.items()):
        cells = []
        for which in (0, 1):
            pictures = sum(int(row[which].sum()) for row in rows)
            right = sum(int((row[which] & row[2]).sum()) for row in rows)
            answered = sum(bool(row[which].any()) for row in rows)
            cells += [
                f"{answered / len(rows):.1%} answered",
                f"{pictures / len(rows):.1f} shown, {right / max(pictures, 1):.1%} hold the thing",
            ]
        print(f"| {kind} | {len(rows)} | {' | '.join(cells)} |")


def questions(
    model: Model, seed: int, galleries: int
) -> Iterator[
    tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
]:
    """Yield kind, the words' vector, the sum's, the pictures' and which of them hold the thing."""
    rng, art = np.random.default_rng((seed, 17)), Art()
    things = [name_thing(number, rng) for number in range(len(THINGS))]
    for _ in range(galleries):
        drawn = draw(model, art, [sample_scene(rng) for _ in range(SIZE)], rng)
        holds = truths(drawn.truth, things, art.natural_colours)
        for _ in range(QUESTIONS):
            thing = int(rng.integers(len(THINGS)))
            colour = COLOUR_NAMES[int(rng.integers(len(COLOUR_NAMES)))]
            place = PLACES[PLACE_NAMES[int(rng.integers(len(PLACE_NAMES)))]][0][0]
            words, *others = model.embed_texts([things[thing].noun, colour, place])
            is_there = "present" if (holds[:, thing] == 1).any() else "absent"
            for what, other in zip(("colour", "place"), others, strict=True):
                for sign, weight in (("minus", -1.0), ("plus", 1.0)):
                    direction = direction_of([words, other], [1.0, weight])
                    kind = f"{is_there} thing {sign} {what}"
                    yield kind, words, direction, drawn.vectors, holds[:, thing]


def print_weights(model: Model) -> None:
    """Print how often the best three show a place, by its weight."""
    folder = demo.gallery_directory()
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    register_heif_opener()
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    vectors = model.embed_pictures(pictures)
    drawn_in = np.array([path.relative_to(folder).parts[0] for path in paths])
    names = [name for name in PLACE_NAMES if name in drawn_in]
    said = model.embed_texts([PLACES[name][1][0] for name in names])
    print("\n| weight of the place | best three that show it |\n| --- | --- |")
    for weight in WEIGHTS:
        shares = []
        for number in range(0, len(paths), 3):
            at = names.index(drawn_in[number])
            place = (at + 1 + number // 3 % (len(names) - 1)) % len(names)
            terms = [vectors[number], said[place]] if weight else [vectors[number]]
            cosines = vectors @ direction_of(terms, [1.0, weight][: len(terms)])
            cosines[number] = -2
            best = np.argsort(-cosines)[:3]
            shares.append(np.mean(drawn_in[best] == names[place]))
        print(f"| {weight:g} | {np.mean(shares):.0%} |")


if __name__ == "__main__":
    main()
