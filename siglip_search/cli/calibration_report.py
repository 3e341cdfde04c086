"""What `calibrate` says about the calibration of a library."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from siglip_search.cli.console import count
from siglip_search.engine.calibrating import NEEDED_OF_EACH, NEEDED_PAIRS, kept_worth
from siglip_search.engine.calibrations import calibration_for
from siglip_search.engine.judgements import kept_judgements
from siglip_search.search.calibration_fit import FALSE_POSITIVE_RATE

if TYPE_CHECKING:
    from siglip_index.protocol import Store
    from siglip_search.engine.calibrating import CalibrationState, Worth
    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.calibration import Calibration


def print_state(state: CalibrationState, store: Store) -> None:
    """Say what was made of the judgements."""
    about = f"{count(state.pairs, 'answer')} about {count(state.queries, 'query', 'queries')}"
    if state.calibration is None:
        print(f"kept {about}, {state.matching} of them yes; no fit yet: {state.missing}")
        print(
            f"{NEEDED_PAIRS} answers are needed, {NEEDED_OF_EACH} of them yes and "
            f"{NEEDED_OF_EACH} no. `siglip-search calibrate` goes on."
        )
        return
    print(f"calibrated on {about}, {state.matching} of them yes")
    _print_fit(state.calibration, state.worth, store.photo_count())


def print_status(store: Store, spec: ModelSpec) -> None:
    """Say what calibrates the scores of a model in a library."""
    calibration = calibration_for(spec, store)
    kept = len(kept_judgements(store))
    if calibration is None:
        print(f"the scores of {spec.name} are uncalibrated: they order, and no more")
        print("`siglip-search calibrate` makes them probabilities, with a few answers of yours.")
    elif calibration.origin == "yours":
        print(f"the scores of {spec.name} are calibrated on {count(calibration.pairs, 'answer')}")
        _print_fit(calibration, kept_worth(store, spec), store.photo_count())
    else:
        print(
            f"the scores of {spec.name} are calibrated by the fit that came with it "
            f"({count(calibration.pairs, 'labelled pair')})"
        )
        _print_fit(calibration, None, store.photo_count())
    print(f"{count(kept, 'answer')} of yours kept in this library")


def status_object(store: Store, spec: ModelSpec) -> dict[str, object]:
    """Return what `print_status` says as JSON has it."""
    calibration = calibration_for(spec, store)
    worth = kept_worth(store, spec) if calibration and calibration.origin == "yours" else None
    pictures = store.photo_count()
    return {
        "model": spec.name,
        "calibration": None if calibration is None else json.loads(calibration.to_json()),
        "pictures": pictures,
        "cut": None if calibration is None else calibration.cut_for(pictures),
        "worth": None if worth is None else asdict(worth),
        "answers": len(kept_judgements(store)),
    }


def _print_fit(calibration: Calibration, worth: Worth | None, pictures: int) -> None:
    if worth is not None:
        print(
            f"  stated probabilities are off by {worth.error:.1%} on average "
            f"(95%: {worth.low:.1%} to {worth.high:.1%}), measured on queries left out of the fit"
        )
    rate = calibration.false_positive_rate
    cut = cut_in_words(calibration.cut_for(pictures))
    print(f"  among {count(pictures, 'picture')} those from {cut} on are shown, so that at most")
    print(f"  {rate:.0%} of the queries for what is not there are answered")
    if calibration.cut_slope:
        known = max(calibration.measured_up_to, calibration.pictures)
        beyond = f"; beyond {known:,} that is carried on, not measured" if pictures > known else ""
        print(f"  the cut rises with the number of pictures{beyond}")
    if worth is not None and rate > FALSE_POSITIVE_RATE:
        needed = round(1 / FALSE_POSITIVE_RATE) - 1
        print(
            f"  ({count(worth.refused, 'query', 'queries')} of yours had nothing to find; "
            f"{needed} would be enough for {FALSE_POSITIVE_RATE:.0%})"
        )


def cut_in_words(cut: float) -> str:
    """Return a cut in per cent, with as many digits as tell it from 100%: "40.5%", "99.97%"."""
    digits = 1 if cut in (0.0, 1.0) else max(1, math.ceil(-math.log10(1 - cut)) - 2)
    return f"{cut:.{digits}%}"
