"""Fit the calibration that is shipped with the demonstration model.

    python scripts/fit_demo_calibration.py

Asks simulated galleries of training-side scenes (`[calibration]` in demo_model/config.toml; other
seeds than any of demo_model/evaluation.toml) for what they hold and what they do not. The galleries
are two halves. The cut is chosen for 5% of absent known things answered, on scores of each half by
the fit of the other; the shipped weights are those of both halves. By how much the cut rises with
the number of pictures is found on collections of 30 to 2,500 drawings of further seeds. Writes
calibration.json into the model's folder; the same at every run. Needs what eval_demo_model.py
needs, and a word list (Debian: wamerican).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from demo_model.captions import strange_words
from demo_model.evaluation import Model
from demo_model.scenes import Art, load_config
from no_match.asked import calibrated, pairs_of
from no_match.demo_galleries import ask_demo_galleries
from no_match.sizes import SIZES, ask_pool, best_log_odds, draw_pool

from siglip_search.engine.calibrations import CALIBRATION_FILE
from siglip_search.models.model_folder import load_model_folder
from siglip_search.search.calibration_fit import (
    FALSE_POSITIVE_RATE,
    choose_cut,
    cut_slope,
    fit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from no_match.asked import AskedQuery

    from siglip_search.search.calibration import Calibration

REPOSITORY = Path(__file__).resolve().parent.parent


def fit_queries(
    asked: Sequence[AskedQuery], model: Model, *, cut: float = 0.5, pictures: int = 0
) -> Calibration:
    """Return the fit of every clear pair of these queries."""
    return fit(
        pairs_of(asked),
        logit_scale=model.scale,
        logit_bias=model.bias,
        origin="shipped",
        cut=cut,
        pictures=pictures,
    )


def main() -> None:
    """Ask, fit, choose the cut and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=REPOSITORY / "siglip_search/demo/model")
    parser.add_argument("--quick", action="store_true", help="two galleries a seed; a trial")
    parser.add_argument("--out", type=Path, help="file to write (default: in the model's folder)")
    arguments = parser.parse_args()
    began = time.monotonic()
    config, settings = load_config("config.toml"), load_config("evaluation.toml")
    chosen = config["calibration"]
    quick = arguments.quick
    galleries = 2 if quick else chosen["galleries"]
    model, art = Model(arguments.model), Art()
    words = strange_words(Path(config["model"]["word_list"]))
    halves = [
        [
            one
            for seed in seeds
            for one in ask_demo_galleries(
                model,
                art,
                seed,
                galleries=galleries,
                size=settings["gallery_scenes"],
                queries=galleries * chosen["queries"],
                words=words,
                templates=[None],
            )
        ]
        for seeds in chosen["halves"]
    ]
    best = []
    for fitted_on, scored in (halves, halves[::-1]):
        calibration = fit_queries(fitted_on, model)
        best += [calibrated(one, calibration).max() for one in scored if one.kind == "absent"]
    cut, _ = choose_cut(np.array(best))
    both = [one for half in halves for one in half]
    shipped = fit_queries(both, model, cut=cut, pictures=settings["gallery_scenes"])
    pools = [draw_pool(model, art, seed) for seed in chosen["pools"][: 1 if quick else None]]
    slope = cut_slope(
        {
            size: np.concatenate(
                [
                    best_log_odds(ask_pool(pool, model, art.natural_colours, size), shipped)
                    for pool in pools
                ]
            )
            for size in SIZES
        }
    )
    shipped = replace(shipped, cut_slope=slope, measured_up_to=SIZES[-1])
    facts = {
        "about": "Written by scripts/fit_demo_calibration.py.",
        "space": load_model_folder(arguments.model).space_key,
        **json.loads(shipped.to_json()),
    }
    out = arguments.out or arguments.model / CALIBRATION_FILE
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(
        f"{shipped.pairs} pairs; cut {cut} for {FALSE_POSITIVE_RATE:.0%} of {len(best)} queries "
        f"for absent things, with slope {slope}; {time.monotonic() - began:.0f} s; wrote {out}"
    )


if __name__ == "__main__":
    main()
