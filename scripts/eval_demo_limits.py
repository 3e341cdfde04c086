"""Where the bundled demonstration model is weak: small things, second things, counting.

    python scripts/eval_demo_limits.py

Prints what its README says about that: how many right pictures the default cut keeps, by the size
of the thing and by how many kinds of things the picture shows; and how often the right number gets
the best probability of "one", "two", "three" and "four". New scenes of seen compositions, one seed.
Needs what eval_demo_model.py needs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from demo_model.captions import name_thing, say
from demo_model.evaluation import Drawn, Model, draw
from demo_model.scenes import Art, sample_scene

MODEL = Path(__file__).resolve().parent.parent / "siglip_search/demo/model"
SIZES = ((0.15, 0.2), (0.2, 0.3), (0.3, 0.6), (0.6, 0.96))


def probability_of_the_first_thing(model: Model, drawn: Drawn) -> np.ndarray:
    """Return the probability of each scene's first thing, named without colour, shape (n,)."""
    plain = np.random.default_rng(0)
    names = [say(name_thing(scene.items[0].thing), plain, "{x}") for scene in drawn.scenes]
    return np.diag(model.probabilities(drawn.vectors, model.embed_texts(names)))


def best_number(model: Model, drawn: Drawn) -> np.ndarray:
    """Return which of one to four gets the best probability for each scene, shape (n,)."""
    plain = np.random.default_rng(0)
    best = []
    for scene, vector in zip(drawn.scenes, drawn.vectors, strict=True):
        asked = [replace(name_thing(scene.items[0].thing), count=count) for count in range(1, 5)]
        words = model.embed_texts([say(query, plain, "{x}") for query in asked])
        best.append(1 + int(model.probabilities(vector[None], words).argmax()))
    return np.array(best)


def main() -> None:
    """Print both lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=77)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    model = Model(MODEL)
    drawn = draw(model, Art(), [sample_scene(rng) for _ in range(arguments.scenes)], rng)
    kept = probability_of_the_first_thing(model, drawn) >= model.cut
    kinds = np.array([len(scene.items) for scene in drawn.scenes])
    print(
        f"above the cut of {model.cut}, of {arguments.scenes} scenes asked for their first thing:"
    )
    for low, high in SIZES:
        rows = (drawn.sizes >= low) & (drawn.sizes < high)
        print(f"  {low:.0%} to {high:.0%} of the frame: {kept[rows].mean():.1%} of {rows.sum()}")
    for number in (1, 2):
        rows = kinds == number
        print(f"  kinds of things, {number}: {kept[rows].mean():.1%} of {rows.sum()}")
    counts = np.array([scene.items[0].count for scene in drawn.scenes])
    best = best_number(model, drawn)
    print("the right number gets the best probability:")
    for count in range(1, 5):
        rows = counts == count
        print(f"  {count}: {(best[rows] == count).mean():.1%} of {rows.sum()}")


if __name__ == "__main__":
    main()
