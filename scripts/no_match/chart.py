"""The reliability diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_search.search.calibration_quality import reliability

if TYPE_CHECKING:
    from pathlib import Path

    from no_match.figures import Judged

COLOURS = {"raw": "#8a8a8a", "calibrated": "#0b6e4f", "softmax": "#c8553d"}
FEWEST = 20
"""A bin of fewer pairs is not drawn: its share says nothing."""


def draw_reliability(judged: dict[str, Judged], out: Path) -> None:
    """Draw what share of pairs matches against what was said, and how many pairs there are.

    Args:
        judged: Ways of scoring by their names.
        out: PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, 2, figsize=(10, 6.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    for column, title in enumerate(("pairs with p of 5% or more", "best picture of each query")):
        upper, lower = axes[0][column], axes[1][column]
        upper.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for name, one in judged.items():
            bins = reliability(one.likely if column == 0 else one.best)
            shown = [each for each in bins if each.pairs >= FEWEST]
            colour = COLOURS[name]
            stated = [each.stated for each in shown]
            upper.plot(stated, [each.observed for each in shown], "o-", color=colour, label=name)
            lower.plot(stated, [each.pairs for each in shown], "o-", color=colour, markersize=3)
        upper.set(title=title, ylabel="share that matches", xlim=(0, 1), ylim=(0, 1))
        lower.set(xlabel="stated probability", ylabel="pairs", yscale="symlog")
        lower.set_ylim(bottom=0)
    axes[0][0].legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    plt.close(figure)
