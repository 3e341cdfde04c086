"""Asks simulated galleries of drawings, whose truth is known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from demo_model.evaluation import ask_galleries

from no_match.asked import AskedQuery
from siglip_search.search.background import background_from

if TYPE_CHECKING:
    from demo_model.evaluation import Model
    from demo_model.scenes import Art


def ask_demo_galleries(
    model: Model,
    art: Art,
    seed: int,
    *,
    galleries: int,
    size: int,
    queries: int,
    words: list[str],
    templates: list[str | None],
) -> list[AskedQuery]:
    """Return what `demo_model.evaluation.ask_galleries` asks; groups are seed and gallery.

    Args:
        model: The demonstration model.
        art: What draws.
        seed: Of the scenes and the queries.
        galleries: How many.
        size: Pictures of each.
        queries: Of each kind in all.
        words: Words never trained; none if empty.
        templates: Ways of asking; None for one of training's ways.
    """
    return [
        AskedQuery(
            one.kind,
            seed * 1000 + one.gallery,
            one.cosines.astype(np.float64),
            one.truth == 1,
            one.truth != 0.5,
            background_from(one.cosines),
        )
        for one in ask_galleries(model, art, seed, galleries, size, queries, words, templates)
    ]
