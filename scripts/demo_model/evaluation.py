"""Judge a model folder on scenes and words that its training never saw."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from PIL import Image

from demo_model.captions import (
    Float,
    Query,
    full_query,
    name_thing,
    say,
    truths,
)
from demo_model.scenes import (
    Art,
    Scene,
    Truth,
    draw_scene,
    load_config,
    sample_aspect,
    sample_scene,
    truth_of,
)
from demo_model.tokenizer import Tokenizer
from demo_model.world import COLOUR_NAMES, NATURAL, PLACE_NAMES, THINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class Model:
    """A model folder on ONNX Runtime, with the preprocessing that the product uses."""

    def __init__(self, folder: Path, threads: int = 2) -> None:
        with (folder / "model.toml").open("rb") as stream:
            self.facts: dict[str, Any] = tomllib.load(stream)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def open_session(name: str) -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(
                str(folder / name), options, providers=["CPUExecutionProvider"]
            )

        vision, text = self.facts["vision"], self.facts["text"]
        self.vision = open_session(vision["file"])
        self.text = open_session(text["file"])
        self.height, self.width = vision["image_size"]
        self.tokenizer = Tokenizer(
            folder / text["tokenizer_file"], length=text["length"], pad_id=text["pad_id"]
        )
        self.scale = float(self.facts["score"]["logit_scale"])
        self.bias = float(self.facts["score"]["logit_bias"])
        self.cut = float(self.facts["score"]["min_probability"])

    def pixel_values(self, pictures: list[Image.Image]) -> Float:
        """Return the picture tower's input, shape (n, 3, height, width)."""
        size = (self.width, self.height)
        rows = [
            np.asarray(p.convert("RGB").resize(size, Image.Resampling.BICUBIC)) for p in pictures
        ]
        values = (np.stack(rows).astype(np.float32) / 255 - 0.5) / 0.5
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def embed_pictures(self, pictures: list[Image.Image], batch: int = 64) -> Float:
        """Embed upright RGB pictures, shape (n, dimension)."""
        parts = [
            self.vision.run(None, {"pixel_values": self.pixel_values(pictures[i : i + batch])})[0]
            for i in range(0, len(pictures), batch)
        ]
        return np.concatenate(parts)

    def embed_texts(self, texts: list[str], batch: int = 128) -> Float:
        """Embed texts, shape (n, dimension)."""
        parts = [
            self.text.run(None, {"input_ids": self.tokenizer(texts[i : i + batch])})[0]
            for i in range(0, len(texts), batch)
        ]
        return np.concatenate(parts)

    def probabilities(self, pictures: Float, texts: Float) -> Float:
        """Return match probabilities of embeddings, shape (pictures, texts)."""
        return self.match_probability(pictures @ texts.T)

    def match_probability(self, cosines: Float) -> Float:
        """Return the match probabilities of cosines, of the same shape."""
        logits = np.clip(cosines * self.scale + self.bias, -80, 80)
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


@dataclass
class Drawn:
    """Scenes that were drawn for evaluation, with their embeddings."""

    scenes: list[Scene]
    truth: Truth
    vectors: Float
    sizes: Float
    pictures: list[Image.Image] = field(default_factory=list)


def draw_pictures(art: Art, scenes: list[Scene], rng: np.random.Generator) -> list[Image.Image]:
    """Draw scenes of about 240 x 240 pixels' area in cameras' aspects, with fresh backdrops."""
    pictures = []
    for scene in scenes:
        aspect = sample_aspect(rng)
        width, height = round(240 * math.sqrt(aspect)), round(240 / math.sqrt(aspect))
        pictures.append(draw_scene(scene, art, rng, width=width, height=height))
    return pictures


def draw(
    model: Model, art: Art, scenes: list[Scene], rng: np.random.Generator, *, keep: bool = False
) -> Drawn:
    """Draw scenes and embed them."""
    pictures = draw_pictures(art, scenes, rng)
    sizes = np.array([scene.items[0].size for scene in scenes], np.float32)
    return Drawn(
        scenes,
        truth_of(scenes),
        model.embed_pictures(pictures),
        sizes,
        pictures if keep else [],
    )


def distinct_scenes(rng: np.random.Generator, number: int, **choices: Any) -> list[Scene]:
    """Sample scenes of which no two have the same full caption."""
    scenes: dict[str, Scene] = {}
    for _ in range(200 * number):
        scene = sample_scene(rng, **choices)
        words = say(full_query(scene), np.random.default_rng(0), "{x}")
        scenes.setdefault(words, scene)
        if len(scenes) == number:
            return list(scenes.values())
    raise ValueError(f"could not find {number} scenes with distinct captions")


# --- measures -------------------------------------------------------------------------------


def hit_rates(scores: Float, truth: Float, tops: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Return the share of rows with a right answer among the first k; doubtful ones are skipped.

    Args:
        scores: Shape (queries, candidates).
        truth: Same shape; 1, 0.5 (skipped) or 0.
        tops: The values of k.
    """
    found = []
    for score, right in zip(scores, truth, strict=True):
        clear = right != 0.5
        best = score[clear & (right == 1)].max(initial=-np.inf)
        found.append(int((score[clear & (right == 0)] >= best).sum()))
    rank = np.array(found)
    return {f"R@{k}": float((rank < k).mean()) for k in tops}


def calibration_error(probability: Float, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width."""
    edge = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(edge, minlength=bins)
    mean = np.bincount(edge, probability, bins) / np.maximum(count, 1)
    rate = np.bincount(edge, right, bins) / np.maximum(count, 1)
    return float((np.abs(mean - rate) * count).sum() / max(count.sum(), 1))


def simple_query(scene: Scene, rng: np.random.Generator) -> Query:
    """Return what a person would type: a thing, with its colour or its place or neither."""
    item = scene.items[0]
    query = name_thing(item.thing, rng)
    chance = rng.random()
    if chance < 0.4 and item.colour != NATURAL:
        return replace(query, colour=item.colour)
    return replace(query, place=scene.place) if chance > 0.75 else query


@dataclass(frozen=True)
class Asked:
    """One query with every picture of one simulated gallery.

    Attributes:
        kind: "absent", a known thing that the gallery does not hold; "mixed", a thing that it
            holds in a colour that it does not; "strange", a word never trained; "present".
        gallery: Number of the gallery.
        query: Unit vector of the query, shape (dimension,).
        cosines: Of the query and each picture, shape (pictures,).
        truth: 1 match, 0.5 neither right nor wrong, 0 no match, shape (pictures,).
    """

    kind: str
    gallery: int
    query: Float
    cosines: Float
    truth: Float


def ask_galleries(
    model: Model,
    art: Art,
    seed: int,
    galleries: int,
    size: int,
    queries: int,
    words: list[str],
    templates: list[str | None],
) -> Iterator[Asked]:
    """Ask simulated galleries for what they hold and what they do not."""
    rng = np.random.default_rng((seed, 4))
    each = math.ceil(queries / galleries)
    for gallery in range(galleries):
        drawn = draw(model, art, [sample_scene(rng) for _ in range(size)], rng)

        def ask(query: Query, kind: str, drawn: Drawn = drawn, gallery: int = gallery) -> Asked:
            template = templates[int(rng.integers(len(templates)))]
            row = model.embed_texts([say(query, rng, template)])
            truth = np.zeros(size, np.float32)
            if not query.strange:
                truth = truths(drawn.truth, [query], art.natural_colours)[:, 0]
            return Asked(kind, gallery, row[0], drawn.vectors @ row[0], truth)

        plain = [name_thing(i, rng) for i in range(len(THINGS))]
        holds = truths(drawn.truth, plain, art.natural_colours).max(0)
        absent, present = np.flatnonzero(holds == 0), np.flatnonzero(holds == 1)
        for _ in range(each):
            if len(absent):
                query = plain[int(rng.choice(absent))]
                if rng.random() < 0.4:
                    query = replace(query, colour=int(rng.integers(len(COLOUR_NAMES))))
                yield ask(query, "absent")
            query = plain[int(rng.choice(present))]
            coloured = [replace(query, colour=c) for c in range(len(COLOUR_NAMES))]
            shown = truths(drawn.truth, coloured, art.natural_colours).max(0)
            if (shown == 0).any():
                yield ask(coloured[int(rng.choice(np.flatnonzero(shown == 0)))], "mixed")
            if rng.random() < 0.4 and (shown == 1).any():
                query = coloured[int(rng.choice(np.flatnonzero(shown == 1)))]
            yield ask(query, "present")
            if words:
                word = words[int(rng.integers(len(words)))]
                strange = Query(noun=word, plural=word, strange=True)
                if rng.random() < 0.4:
                    strange = replace(strange, colour=int(rng.integers(len(COLOUR_NAMES))))
                yield ask(strange, "strange")


def answered(asked: list[Asked], kind: str, model: Model) -> float:
    """Return the share of queries of one kind with a picture above the default cut."""
    best = [one.cosines.max() for one in asked if one.kind == kind]
    return float((model.match_probability(np.array(best)) >= model.cut).mean())


def choose_cut(model: Model, config: dict[str, Any], art: Art | None = None) -> float:
    """Choose the default cut on training-side scenes: absent known things answered rarely enough.

    A tenth is kept in hand: the wanted share is 0.9 times that of evaluation.toml.
    """
    settings = load_config("evaluation.toml")
    asked = ask_galleries(
        model,
        art or Art(),
        settings["calibration_seed"],
        config["cut"]["galleries"],
        config["cut"]["scenes"],
        config["cut"]["galleries"] * 20,
        [],
        [None],
    )
    wanted = 0.9 * float(settings["cut_false_answers"])
    best = np.array([one.cosines.max() for one in asked if one.kind == "absent"])
    cut = float(np.quantile(model.match_probability(best), 1 - wanted))
    return math.ceil(cut * 1000) / 1000


# --- the whole evaluation -------------------------------------------------------------------


def evaluate_seed(model: Model, art: Art, seed: int, *, quick: bool = False) -> dict[str, float]:
    """Return every figure of evaluation.toml for one seed."""
    settings = load_config("evaluation.toml")
    unseen = settings["unseen"]
    number = 200 if quick else int(settings["scenes"])
    queries = 100 if quick else int(settings["queries"])
    natural = art.natural_colours
    figures: dict[str, float] = {}
    rng = np.random.default_rng((seed, 1))
    kinds: list[tuple[str, dict[str, Any], list[str | None]]] = [
        ("seen", {}, [None]),
        ("unseen", {"unseen": True}, list(unseen["templates"])),
        ("style", {"style": unseen["style"]}, list(unseen["templates"])),
    ]
    for kind, choices, templates in kinds:
        drawn = draw(model, art, distinct_scenes(rng, number, **choices), rng)
        full = [full_query(scene, rng) for scene in drawn.scenes]
        words = [say(q, rng, templates[int(rng.integers(len(templates)))]) for q in full]
        texts = model.embed_texts(words)
        scores = drawn.vectors @ texts.T
        truth = truths(drawn.truth, full, natural)
        chosen = rng.permutation(number)[:queries]
        for name, value in hit_rates(scores.T[chosen], truth.T[chosen]).items():
            figures[f"{kind}: text to image {name}"] = value
        for name, value in hit_rates(scores[chosen], truth[chosen]).items():
            figures[f"{kind}: image to text {name}"] = value
        if kind == "seen":
            for low, high in ((0.15, 0.3), (0.3, 0.6), (0.6, 0.96)):
                rows = chosen[(drawn.sizes[chosen] >= low) & (drawn.sizes[chosen] < high)]
                name = f"seen: text to image R@1, size {low:.0%} to {high:.0%}"
                figures[name] = hit_rates(scores.T[rows], truth.T[rows])["R@1"]
        simple = [simple_query(drawn.scenes[int(i)], rng) for i in chosen]
        simple_words = [say(q, rng, templates[int(rng.integers(len(templates)))]) for q in simple]
        simple_texts = model.embed_texts(simple_words)
        simple_truth = truths(drawn.truth, simple, natural)
        simple_scores = drawn.vectors @ simple_texts.T
        for name, value in hit_rates(simple_scores.T, simple_truth.T, (1, 3, 5)).items():
            figures[f"{kind}: simple query {name}"] = value

        template = settings["zero_shot"]["template"]
        names = [name_thing(i) for i in range(len(THINGS))]
        label_texts = model.embed_texts([say(q, rng, template) for q in names])
        guess = (drawn.vectors @ label_texts.T).argmax(1)
        held = (drawn.truth.things == guess[:, None]).any(1)
        figures[f"{kind}: zero-shot thing"] = float(held.mean())
    drawn = draw(model, art, [sample_scene(rng) for _ in range(number)], rng)
    single = np.array([len(s.items) == 1 and s.items[0].colour != NATURAL for s in drawn.scenes])
    template = settings["zero_shot"]["template"]
    texts = model.embed_texts([template.format(x=f"something {name}") for name in COLOUR_NAMES])
    guess = (drawn.vectors @ texts.T).argmax(1)
    figures["zero-shot colour"] = float((guess == drawn.truth.colours[:, 0])[single].mean())
    places = [Query(place=p) for p in range(len(PLACE_NAMES))]
    texts = model.embed_texts([say(q, np.random.default_rng(0), template) for q in places])
    figures["zero-shot place"] = float(
        ((drawn.vectors @ texts.T).argmax(1) == drawn.truth.places).mean()
    )

    ask = [simple_query(s, rng) for s in drawn.scenes[:queries]]
    texts = model.embed_texts([say(q, rng) for q in ask])
    truth = truths(drawn.truth, ask, natural)
    p = model.probabilities(drawn.vectors, texts)
    clear = truth != 0.5
    figures["ECE of all pairs"] = calibration_error(p[clear], truth[clear] == 1)
    likely = clear & (p >= 0.05)
    figures["ECE of pairs with p >= 0.05"] = calibration_error(p[likely], truth[likely] == 1)

    words = list(settings["absent"]["words"])
    galleries = 4 if quick else 20
    for label, templates in (("", [None]), (" (unseen templates)", list(unseen["templates"]))):
        size = settings["gallery_scenes"]
        asked = list(ask_galleries(model, art, seed, galleries, size, queries, words, templates))
        for kind, name in (
            ("absent", "absent known thing"),
            ("mixed", "held thing in absent colour"),
            ("strange", "word never trained"),
        ):
            figures[f"answered, {name}{label}"] = answered(asked, kind, model)
        right = [one.cosines[one.truth == 1] for one in asked if one.kind == "present"]
        found = model.match_probability(np.array([cosines.max() for cosines in right]))
        figures[f"found, present thing{label}"] = float((found >= model.cut).mean())
        above = model.match_probability(np.concatenate(right)) >= model.cut
        figures[f"right pictures above the cut{label}"] = float(above.mean())
    return figures


def summarize(runs: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return each figure's mean and the half-width of its 95% interval (Student's t) over seeds."""
    student = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
    result = {}
    for key in runs[0]:
        values = np.array([run[key] for run in runs])
        spread = 0.0
        if len(values) > 1:
            factor = student.get(len(values), 2.0)
            spread = factor * float(values.std(ddof=1)) / math.sqrt(len(values))
        result[key] = (float(values.mean()), spread)
    return result
