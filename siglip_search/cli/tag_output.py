"""What `siglip-search tag` shows: lines for people, and objects for programs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from siglip_search.cli.console import count, duration, say, shown
from siglip_search.search.vocabulary import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siglip_search.engine.tag_export import SidecarReport
    from siglip_search.engine.tagging import TagChoice, TagCut, TaggingReport, TagSummary

_BEST: Final = 10
_REFUSALS: Final = 5


def print_tagging(report: TaggingReport, counts: Mapping[str, int]) -> None:
    """Print what a run did, and which tags are the most frequent ones."""
    print(
        f"{count(report.pictures, 'picture')} compared with {_labels(report.choice)}: "
        f"{report.tagged:,} got {count(report.tags, 'tag')} ({duration(report.seconds)})"
    )
    print(_cut(report.cut))
    if counts:
        most = [f"{shown(label)} {number:,}" for label, number in list(counts.items())[:_BEST]]
        more = "; `siglip-search tag --list` shows all" if len(counts) > _BEST else ""
        print(f"most: {', '.join(most)}{more}")


def tagging_object(report: TaggingReport, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what a run did as JSON knows it."""
    return {
        "compared": report.pictures,
        "tagged": report.tagged,
        "tags": report.tags,
        "left": report.left,
        "seconds": report.seconds,
        **_choice_object(report.choice, report.cut),
        "counts": _counts_object(counts),
    }


def print_summary(summary: TagSummary) -> None:
    """Print how many pictures have which tag."""
    width = max((len(f"{number:,}") for number in summary.counts.values()), default=0)
    for label, number in summary.counts.items():
        print(f"{number:>{width},}  {shown(label)}")
    if summary.choice is None:
        say("no labels are chosen: `siglip-search tag` compares pictures with those it brings")
        return
    say(_labels(summary.choice) + ("" if summary.cut is None else f"; {_cut(summary.cut)}"))
    if summary.untagged:
        say(f"{count(summary.untagged, 'picture')} not compared yet: `siglip-search tag` does it")


def summary_object(summary: TagSummary) -> dict[str, Any]:
    """Return how many pictures have which tag, as JSON knows it."""
    return {
        **_choice_object(summary.choice, summary.cut),
        "untagged": summary.untagged,
        "counts": _counts_object(summary.counts),
    }


def print_sidecars(report: SidecarReport, *, dry_run: bool) -> None:
    """Print what became of a wish for sidecars, nothing about what did not occur."""
    done = "would be written" if dry_run else "written"
    print(f"{count(report.written, 'sidecar')} {done}")
    for number, what in (
        (report.existing, "left alone: there is a sidecar already, which is never overwritten"),
        (report.known, "left alone: their tags are keywords of theirs already"),
        (report.foreign, "left alone: inside another program's photo library"),
        (report.gone, "not where they were"),
    ):
        if number:
            print(f"{count(number, 'picture')} {what}")
    if report.refused:
        say(f"{count(report.not_written, 'picture')} without the sidecar that was to be written:")
        for folder, reason in report.refused[:_REFUSALS]:
            say(f"  {shown(folder)}: {reason}")
        if len(report.refused) > _REFUSALS:
            say(f"  ... and {len(report.refused) - _REFUSALS:,} more folders")


def sidecar_object(report: SidecarReport) -> dict[str, Any]:
    """Return what became of a wish for sidecars as JSON knows it."""
    refused = [{"folder": folder, "reason": reason} for folder, reason in report.refused]
    return {**dataclasses.asdict(report), "refused": refused}


def _labels(choice: TagChoice) -> str:
    number = count(len(choice.vocabulary.labels), "label")
    name = choice.vocabulary.name
    return f"{number} of the program's list" if name == DEFAULT_NAME else f"{number} of {name}"


def _cut(cut: TagCut) -> str:
    least = _percent(cut.min_probability)
    if cut.calibration is None:
        return f"tags begin at a probability of {least} by the model's own measure, not calibrated"
    whose = "yours" if cut.calibration.origin == "yours" else "the one that came with the model"
    return f"tags begin at a calibrated probability of {least} (fit: {whose})"


def _percent(probability: float) -> str:
    return f"{100 * probability:.3g}%"


def _choice_object(choice: TagChoice | None, cut: TagCut | None) -> dict[str, Any]:
    return {
        "vocabulary": None if choice is None else choice.vocabulary.name,
        "labels": None if choice is None else len(choice.vocabulary.labels),
        "scale": None if cut is None else cut.scale,
        "min_probability": None if cut is None else cut.min_probability,
        "calibration": cut.calibration.origin if cut is not None and cut.calibration else None,
    }


def _counts_object(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"label": label, "pictures": number} for label, number in counts.items()]
