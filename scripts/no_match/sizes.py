"""Collections of few and of many drawings: what they answer, and what their cut has to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from demo_model.captions import name_thing, say, truths
from demo_model.evaluation import draw
from demo_model.scenes import sample_scene, truth_of
from demo_model.world import COLOUR_NAMES, THINGS

from no_match.asked import AskedQuery, calibrated
from siglip_search.search.background import background_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from demo_model.evaluation import Model
    from demo_model.scenes import Art, Truth
    from numpy.typing import NDArray

    from siglip_search.search.calibration import Calibration

SIZES: Final = (30, 120, 500, 1000, 2500)
SCENES: Final = 3000
BACKGROUND: Final = 256
"""Pictures of a background, as the product takes."""

_DRAWN_AT_ONCE: Final = 250
_MOST_DRAWS: Final = 6
_COLOURED: Final = 0.4


@dataclass(frozen=True, eq=False)
class Pool:
    """Many drawings, of which collections of any smaller size are drawn.

    Attributes:
        seed: Of the scenes.
        vectors: Of the drawings, shape (scenes, dimension).
        truth: What they show.
    """

    seed: int
    vectors: NDArray[np.float32]
    truth: Truth


@dataclass(frozen=True)
class SizeFigures:
    """What collections of one size make of queries.

    Attributes:
        pictures: Of each collection.
        cut: From which probability on a picture is shown.
        fixed: Share of the queries for absent things that would be answered at the cut that the
            calibration has for its own number of pictures.
        answered: Share of them that are answered at the cut for this size.
        bare: The same of those that name no colour.
        found: Share of the queries for things that are there with a matching picture shown.
        found_single: The same where just one picture matches.
        number: How many queries for absent things there are.
    """

    pictures: int
    cut: float
    fixed: float
    answered: float
    bare: float
    found: float
    found_single: float
    number: int


def draw_pool(model: Model, art: Art, seed: int, scenes: int = SCENES) -> Pool:
    """Draw scenes as training has them, of a seed that it did not use."""
    rng = np.random.default_rng((seed, 4))
    sampled = [sample_scene(rng) for _ in range(scenes)]
    vectors = [
        # A few hundred pictures at a time: all of them would be half a gigabyte.
        draw(model, art, sampled[start : start + _DRAWN_AT_ONCE], rng).vectors
        for start in range(0, scenes, _DRAWN_AT_ONCE)
    ]
    return Pool(seed, np.concatenate(vectors), truth_of(sampled))


def ask_pool(
    pool: Pool, model: Model, natural_colours: NDArray[np.float32], size: int
) -> Iterator[AskedQuery]:
    """Ask collections of one size for what they hold and what they do not.

    Queries are said as in `demo_model.evaluation.ask_galleries`: two in five name a colour. Kinds
    are "absent" things, and "bare" ones without a colour; "present" things, and "single" ones, of
    which just one picture is there.

    Args:
        pool: What the collections are drawn of; more than `size` scenes.
        model: The demonstration model.
        natural_colours: `Art.natural_colours`.
        size: Pictures of each collection.
    """
    rng = np.random.default_rng((pool.seed, 5))
    plain = [name_thing(thing, rng) for _ in range(_MOST_DRAWS) for thing in range(len(THINGS))]
    coloured = rng.random(len(plain)) < _COLOURED
    queries = [
        replace(query, colour=int(rng.integers(len(COLOUR_NAMES)))) if named else query
        for query, named in zip(plain, coloured, strict=True)
    ]
    texts = model.embed_texts([say(query, rng) for query in queries])
    cosines = (pool.vectors @ texts.T).astype(np.float64)
    held = truths(pool.truth, plain[: len(THINGS)], natural_colours)
    shown = truths(pool.truth, queries, natural_colours)
    chosen = np.random.default_rng((pool.seed, size))

    def among(number: int, kind: str, rows: NDArray[np.int64]) -> AskedQuery:
        own = cosines[rows, number]
        right = shown[rows, number]
        background = background_from(own[:BACKGROUND])
        return AskedQuery(kind, pool.seed, own, right == 1, right != 0.5, background)

    for number in range(len(queries)):
        others = np.flatnonzero(held[:, number % len(THINGS)] == 0)
        right = np.flatnonzero(shown[:, number] == 1)
        without = chosen.choice(others, min(size, len(others)), replace=False)
        yield among(number, "absent" if coloured[number] else "bare", without)
        if len(right):
            one = int(chosen.choice(right))
            yield among(number, "single", np.append(without[1:], one))
            rows = chosen.choice(len(held), size, replace=False)
            if (shown[rows, number] == 1).any():
                yield among(number, "present", rows)


def best_log_odds(asked: Iterable[AskedQuery], calibration: Calibration) -> NDArray[np.float64]:
    """Return the log-odds of the best picture for each thing that is not there, shape (n,)."""
    best = [calibrated(one, calibration).max() for one in asked if one.kind in {"absent", "bare"}]
    return np.log(best) - np.log1p(-np.array(best))


def size_figures(asked: Sequence[AskedQuery], calibration: Calibration, size: int) -> SizeFigures:
    """Return what collections of one size make of what `ask_pool` asks."""
    cut = calibration.cut_for(size)
    best: dict[str, list[float]] = {kind: [] for kind in ("absent", "bare", "present", "single")}
    for one in asked:
        scores = calibrated(one, calibration)
        best[one.kind].append(scores[one.matches].max() if one.matches.any() else scores.max())
    bare, present, single = (np.array(best[kind]) for kind in ("bare", "present", "single"))
    absent = np.array(best["absent"] + best["bare"])
    return SizeFigures(
        pictures=size,
        cut=cut,
        fixed=float((absent >= calibration.cut).mean()),
        answered=float((absent >= cut).mean()),
        bare=float((bare >= cut).mean()),
        found=float((present >= cut).mean()),
        found_single=float((single >= cut).mean()),
        number=len(absent),
    )
