"""Judge the bundled demonstration model: print its figures, and write them to its README.

    python scripts/eval_demo_model.py
    python scripts/eval_demo_model.py --readme --plot

Settings are in demo_model/evaluation.toml, written before the model was trained. Every figure is
the mean over the seeds there with the half-width of its 95% interval (Student's t over seeds).
Needs onnxruntime, sentencepiece, pillow-heif and the two fonts; --plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from demo_model.captions import Query, name_thing, say
from demo_model.evaluation import Model, draw, evaluate_seed, summarize
from demo_model.scenes import Art, load_config, sample_scene
from demo_model.world import COLOUR_ID, PLACE_ID, THING_ID, THINGS
from PIL import Image, ImageOps

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = REPOSITORY / "siglip_search/demo"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def read_gallery(folder: Path) -> tuple[dict[str, Any], list[Image.Image]]:
    """Return gallery.json and its pictures, upright."""
    pillow_heif.register_heif_opener()
    truth = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
    pictures = []
    for facts in truth["pictures"]:
        with Image.open(folder / facts["file"]) as picture:
            pictures.append(ImageOps.exif_transpose(picture).convert("RGB"))
    return truth, pictures


def gallery_queries(truth: dict[str, Any]) -> list[tuple[Query, set[int], set[int]]]:
    """Return every simple query of the gallery's world: right pictures, and doubtful ones.

    A thing; a thing in its colour; a thing in its place. An untinted thing is no answer, right or
    wrong, to its colour.
    """
    asked: dict[tuple[str, str, str], tuple[set[int], set[int]]] = {}
    for facts in truth["pictures"]:
        for item in [facts, *facts["others"]]:
            asked[item["thing"], "", ""] = (set(), set())
            asked[item["thing"], "", facts["place"]] = (set(), set())
            if item["colour"] != "natural":
                asked[item["thing"], item["colour"], ""] = (set(), set())
    for (thing, colour, place), (right, doubtful) in asked.items():
        for i, facts in enumerate(truth["pictures"]):
            for item in [facts, *facts["others"]]:
                if item["thing"] != thing or (place and facts["place"] != place):
                    continue
                if colour and item["colour"] == "natural":
                    doubtful.add(i)
                elif not colour or item["colour"] == colour:
                    right.add(i)
    return [
        (
            Query(
                (THING_ID[thing],),
                thing,
                THINGS[THING_ID[thing]].plurals[0],
                COLOUR_ID[colour] if colour else -1,
                -1,
                PLACE_ID[place] if place else -1,
            ),
            right,
            doubtful - right,
        )
        for (thing, colour, place), (right, doubtful) in asked.items()
    ]


def judge_gallery(model: Model, folder: Path) -> dict[str, float]:
    """Return how the shipped gallery's own queries come out."""
    truth, pictures = read_gallery(folder)
    vectors = model.embed_pictures(pictures)
    rng = np.random.default_rng(0)
    first = three = found = 0
    queries = gallery_queries(truth)
    misses = []
    for query, right, doubtful in queries:
        words = say(query, rng, "{x}")
        p = model.probabilities(vectors, model.embed_texts([words]))[:, 0]
        order = [int(i) for i in np.argsort(-p) if int(i) not in doubtful]
        first += order[0] in right
        three += bool(set(order[:3]) & right)
        found += max(p[i] for i in right) >= model.cut
        if not set(order[:3]) & right:
            misses.append(words)
    absent = [say(name_thing(THING_ID[name]), rng, "{x}") for name in truth["absent_things"]]
    strange = load_config("evaluation.toml")["absent"]["words"]
    best_absent = model.probabilities(vectors, model.embed_texts(absent)).max(0)
    best_strange = model.probabilities(vectors, model.embed_texts(list(strange))).max(0)
    print("gallery misses:", "; ".join(misses) or "none")
    answered = [w for w, p in zip(absent, best_absent, strict=True) if p >= model.cut]
    print("gallery, absent things answered:", "; ".join(answered) or "none")
    return {
        "gallery: queries": len(queries),
        "gallery: right picture first": first / len(queries),
        "gallery: right picture among three": three / len(queries),
        "gallery: right picture above the cut": found / len(queries),
        "gallery: absent known things answered": float((best_absent >= model.cut).mean()),
        "gallery: words never trained answered": float((best_strange >= model.cut).mean()),
    }


def table(figures: dict[str, tuple[float, float]], gallery: dict[str, float]) -> str:
    """Return the figures as Markdown."""
    lines = ["| figure | value | ± |", "|---|---:|---:|"]
    for name, (mean, spread) in figures.items():
        lines.append(f"| {name} | {mean:.3f} | {spread:.3f} |")
    for name, value in gallery.items():
        shown = f"{value:.0f}" if name.endswith("queries") else f"{value:.3f}"
        lines.append(f"| {name} | {shown} | |")
    return "\n".join(lines)


def write_readme(path: Path, text: str) -> None:
    """Replace what stands between the two marks of the README."""
    old = path.read_text(encoding="utf-8")
    before, rest = old.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def plot(model: Model, art: Art, out: Path, log: Path | None) -> None:
    """Draw curves, confusion, calibration and a sheet of hits and misses."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    settings = load_config("evaluation.toml")
    rng = np.random.default_rng((settings["seeds"][0], 6))
    drawn = draw(model, art, [sample_scene(rng) for _ in range(1000)], rng, keep=True)
    template = settings["zero_shot"]["template"]
    names = [name_thing(i) for i in range(len(THINGS))]
    texts = model.embed_texts([say(q, rng, template) for q in names])
    p = model.probabilities(drawn.vectors, texts)
    single = np.flatnonzero(drawn.truth.things[:, 1] < 0)
    guess, right = p.argmax(1), drawn.truth.things[:, 0]

    figure = plt.figure(figsize=(13, 18))
    grid = figure.add_gridspec(4, 3, height_ratios=(1.1, 4.2, 1.1, 1.1))
    if log is not None and log.exists():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        # A resumed run repeats some steps: the last word counts.
        last = {(line["stage"], line["step"]): line for line in lines if "loss" in line}
        rows = [last[key] for key in sorted(last)]
        axis = figure.add_subplot(grid[0, 0])
        for key in ("thing", "colour", "place"):
            steps = [(r["step"], r[key]) for r in rows if r["stage"] == "pretrain" and key in r]
            axis.plot(*zip(*steps, strict=True), label=key)
        axis.set(title="pretraining: accuracy on training scenes", xlabel="step", ylim=(0, 1))
        axis.legend()
        axis = figure.add_subplot(grid[0, 1])
        for stage in ("text", "joint", "finish", "polish"):
            steps = [(r["step"], r["loss"]) for r in rows if r["stage"] == stage and "loss" in r]
            if steps:
                axis.plot(*zip(*steps, strict=True), label=stage)
        axis.set(title="sigmoid loss per picture", xlabel="step", yscale="log")
        axis.legend()
    axis = figure.add_subplot(grid[0, 2])
    held = np.zeros_like(p, dtype=bool)
    for slot in range(2):
        rows_with = np.flatnonzero(drawn.truth.things[:, slot] >= 0)
        held[rows_with, drawn.truth.things[rows_with, slot]] = True
    bins = np.minimum((p * 15).astype(int), 14)
    rate = [held[bins == b].mean() if (bins == b).any() else np.nan for b in range(15)]
    axis.plot([0, 1], [0, 1], color="0.7")
    axis.plot((np.arange(15) + 0.5) / 15, rate, "o-")
    axis.set(title="is it there? share right by probability", xlabel="raw sigmoid")

    confusion = np.zeros((len(THINGS), len(THINGS)))
    np.add.at(confusion, (right[single], guess[single]), 1)
    axis = figure.add_subplot(grid[1, :])
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="magma_r", vmin=0, vmax=1)
    axis.set_xticks(range(len(THINGS)), [t.name for t in THINGS], rotation=90, fontsize=5)
    axis.set_yticks(range(len(THINGS)), [t.name for t in THINGS], fontsize=5)
    axis.set(title=f"zero-shot confusion, {len(single)} unseen scenes of one thing")

    hits = single[guess[single] == right[single]]
    misses = single[guess[single] != right[single]]
    for row, (title, rows_shown) in enumerate((("hits", hits), ("misses", misses))):
        inner = grid[2 + row, :].subgridspec(2, 12)
        for k, i in enumerate(rows_shown[:24]):
            axis = figure.add_subplot(inner[k // 12, k % 12])
            axis.imshow(drawn.pictures[int(i)].resize((96, 96)))
            axis.set_xticks([])
            axis.set_yticks([])
            wanted, got = THINGS[right[i]].name, THINGS[guess[i]].name
            axis.set_title(wanted if title == "hits" else f"{wanted}\nas {got}", fontsize=7)
    figure.suptitle(
        "The bundled demonstration model: drawings, not photographs "
        "(pictures below: hits, then misses, in the order drawn)"
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def main() -> None:
    """Evaluate, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--gallery", type=Path, default=DEMO / "gallery")
    parser.add_argument("--quick", action="store_true", help="one seed, few queries")
    parser.add_argument("--readme", action="store_true", help="write the figures to the README")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", action="store_true", help="write docs/demo-model.png")
    parser.add_argument(
        "--log",
        type=Path,
        default=REPOSITORY / "scripts/demo_model/training_log.jsonl",
        help="log of the training run, for the curves (default: that of the shipped model)",
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    model, art = Model(arguments.model), Art()
    seeds = load_config("evaluation.toml")["seeds"][: 1 if arguments.quick else None]
    figures = summarize([evaluate_seed(model, art, seed, quick=arguments.quick) for seed in seeds])
    gallery = judge_gallery(model, arguments.gallery)
    text = table(figures, gallery)
    print(text)
    print(f"default cut {model.cut}, {time.monotonic() - began:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": figures, "gallery": gallery}, indent=1))
    if arguments.readme:
        write_readme(DEMO / "README.md", text)
    if arguments.plot:
        plot(model, art, REPOSITORY / "docs/demo-model.png", arguments.log)


if __name__ == "__main__":
    main()
