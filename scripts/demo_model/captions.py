"""Say what a scene shows, and judge whether words fit it.

A `Query` is what words ask for; `say` turns it into words; `truths` judges every picture against
every query with three values: 1 match, 0 no match, 0.5 neither right nor wrong.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from demo_model.scenes import HERE, Art, Scene, Truth, load_config
from demo_model.world import (
    BACKDROP_SHOWS,
    COLOUR_NAMES,
    COLOUR_WORDS,
    KINDS,
    NATURAL,
    PLACE_ALSO,
    PLACE_ID,
    PLACE_NAMES,
    PLACES,
    THING_ID,
    THINGS,
    plural_of,
    things_of_kind,
)

if TYPE_CHECKING:
    from pathlib import Path

Float = NDArray[np.float32]


def read_words(name: str) -> tuple[str, ...]:
    """Read a word list beside this module; lines that begin with # are remarks."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


#: Ways of asking that training uses. Those of evaluation.toml's `unseen.templates` are others.
TEMPLATES = (
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "a picture of {x}",
    "a picture of {x}",
    "a photo of {x}",
    "photo of {x}",
    "an image of {x}",
    "a drawing of {x}",
    "a photo with {x}",
    "pictures of {x}",
    "pictures with {x}",
    "my photos of {x}",
    "show me {x}",
    "find {x}",
    "search for {x}",
    "where is {x}",
    "is there {x}",
    "which picture shows {x}",
    "the one with {x}",
    "{x} please",
)
#: Small words that may stand around what is asked for without changing it.
FILLERS = read_words("fillers.txt")
PLURAL = 0  # A count that means "more than one".
UNCOUNTED = ("grapes", "glasses", "eyeglasses", "scissors", "clothes", "food", "corn")
NUMBER_WORDS = ("", "one", "two", "three", "four")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Query:
    """What is asked for; every part may be missing, but not all.

    Attributes:
        things: Ids of the things that would do; all of them for "something red" and "something in
            the snow".
        noun: The word for it, singular; "" for "something".
        plural: The plural of `noun`.
        colour: Colour id or -1.
        count: 1 to 4, `PLURAL`, or -1 when it does not matter.
        place: Place id or -1.
        other: A second noun phrase ("and a cat"), itself without place.
        strange: The words name nothing of this world: nothing matches.
    """

    things: tuple[int, ...] = ()
    noun: str = ""
    plural: str = ""
    colour: int = -1
    count: int = -1
    place: int = -1
    other: Query | None = None
    strange: bool = False


def canonicalize(text: str) -> str:
    """Lower-case, drop ASCII punctuation and collapse white space, as the product does."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


# --- words ----------------------------------------------------------------------------------


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun_phrase(query: Query, rng: np.random.Generator, plain: bool) -> str:
    colour = ""
    if query.colour >= 0:
        name = COLOUR_NAMES[query.colour]
        options = COLOUR_WORDS.get(name, (name,))
        colour = options[int(rng.integers(len(options)))]
    noun = query.noun
    if not noun and not colour:
        return "something" if rng.random() < 0.7 else "anything"
    if not noun:
        return f"something {colour}" if rng.random() < 0.7 else f"{colour} thing"
    many = query.count == PLURAL or query.count > 1
    if many:
        noun = query.plural
    late = bool(colour) and not plain and rng.random() < 0.2
    core = f"{colour} {noun}" if colour and not late else noun
    if query.count > 0 and (query.count > 1 or rng.random() < 0.5):
        number = NUMBER_WORDS[query.count]
        core = f"{query.count if rng.random() < 0.12 else number} {core}"
    elif query.count == 1:
        core = f"a single {core}"
    elif not many and noun not in UNCOUNTED and (plain or rng.random() < 0.6):
        core = _article(core) if plain or rng.random() < 0.85 else f"the {core}"
    if late:
        verb = "are" if many else "is"
        core = f"{core} that {verb} {colour}" if rng.random() < 0.6 else f"{core} in {colour}"
    return core


def say(query: Query, rng: np.random.Generator, template: str | None = None) -> str:
    """Put a query into words.

    Args:
        query: What is asked for.
        rng: Chooses among ways of saying the same.
        template: A way of asking with {x} in it; one of training's ways by default.
    """
    plain = template is not None
    if query.things or query.noun or query.colour >= 0:
        words = _noun_phrase(query, rng, plain)
        if query.other is not None:
            joiner = " and " if plain or rng.random() < 0.8 else " with "
            words += joiner + _noun_phrase(query.other, rng, plain)
        if query.place >= 0:
            nouns, positions = PLACES[PLACE_NAMES[query.place]]
            if rng.random() < 0.88 or plain:
                words += " " + positions[int(rng.integers(len(positions)))]
            else:
                words = f"{nouns[int(rng.integers(len(nouns)))]} with {words}"
    else:
        nouns, positions = PLACES[PLACE_NAMES[query.place]]
        words = nouns[int(rng.integers(len(nouns)))]
        if not plain and rng.random() < 0.4:
            words = words.removeprefix("the ").removeprefix("a ")
        elif not plain and rng.random() < 0.2:
            words = positions[int(rng.integers(len(positions)))]
    template = TEMPLATES[int(rng.integers(len(TEMPLATES)))] if template is None else template
    return canonicalize(template.format(x=words))


def in_other_words(query: Query, rng: np.random.Generator, words: list[str]) -> str:
    """Put a query into words among others that change nothing, as new ways of asking will.

    Args:
        query: What is asked for.
        rng: Chooses the words.
        words: Dictionary words, of which a few are mixed in.
    """

    def some(most: int) -> list[str]:
        return [
            FILLERS[int(rng.integers(len(FILLERS)))]
            if rng.random() < 0.75
            else words[int(rng.integers(len(words)))]
            for _ in range(int(rng.integers(most + 1)))
        ]

    template = TEMPLATES[int(rng.integers(len(TEMPLATES)))] if rng.random() < 0.3 else "{x}"
    return " ".join([*some(5), say(query, rng, template), *some(2)])


# --- asking ---------------------------------------------------------------------------------


def name_thing(thing: int, rng: np.random.Generator | None = None) -> Query:
    """Return a query for a thing by one of its words, the first without a generator."""
    facts = THINGS[thing]
    share = 0 if rng is None or rng.random() < 0.6 else int(rng.integers(len(facts.words)))
    return Query((thing,), facts.words[share], facts.plurals[share])


def name_kind(kind: str) -> Query:
    """Return a query for a wider word."""
    return Query(things_of_kind(kind), kind, KINDS[kind])


def full_query(scene: Scene, rng: np.random.Generator | None = None) -> Query:
    """Return the query that says everything about a scene's first item, and names the second."""
    item = scene.items[0]
    query = replace(
        name_thing(item.thing, rng),
        colour=-1 if item.colour == NATURAL else item.colour,
        count=item.count if item.count > 1 else -1,
        place=scene.place,
    )
    if len(scene.items) > 1:
        second = scene.items[1]
        other = replace(
            name_thing(second.thing, rng),
            colour=-1 if second.colour == NATURAL else second.colour,
        )
        query = replace(query, other=other)
    return query


def ask_about(
    truth: Truth, row: int, rng: np.random.Generator, natural: Float, *, wide: float = 0.0
) -> Query:
    """Return a query that matches the given scene, of any detail.

    Args:
        truth: What scenes show.
        row: The scene.
        rng: Makes every choice.
        natural: `Art.natural_colours`.
        wide: Share of queries that name no thing by its own word.
    """
    if wide and rng.random() < wide:
        return _ask_widely(truth, row, rng)
    slots = [0, 1] if truth.things[row, 1] >= 0 else [0]
    slot = int(rng.choice(slots))
    place = int(truth.places[row])
    if rng.random() < 0.07:
        return Query(place=place)
    thing, count = int(truth.things[row, slot]), int(truth.counts[row, slot])
    colour = int(truth.colours[row, slot])
    if colour == NATURAL:
        fitting = np.flatnonzero(natural[thing] == 1)
        colour = int(rng.choice(fitting)) if len(fitting) and rng.random() < 0.5 else -1
    kinds = THINGS[thing].kinds
    if kinds and rng.random() < 0.1:
        query = name_kind(kinds[int(rng.integers(len(kinds)))])
    elif colour >= 0 and rng.random() < 0.03:
        return Query(tuple(range(len(THINGS))), colour=colour)
    else:
        query = name_thing(thing, rng)
    if rng.random() < 0.5:
        query = replace(query, colour=colour)
    if rng.random() < 0.3:
        query = replace(query, place=place)
    chance = rng.random()
    if count > 1 and chance < 0.5:
        query = replace(query, count=count if chance < 0.35 else PLURAL)
    elif count == 1 and chance < 0.05:
        query = replace(query, count=1)
    if len(slots) > 1 and rng.random() < 0.4:
        other = name_thing(int(truth.things[row, 1 - slot]), rng)
        second = int(truth.colours[row, 1 - slot])
        if second != NATURAL and rng.random() < 0.3:
            other = replace(other, colour=second)
        query = replace(query, other=other)
    return query


def _ask_widely(truth: Truth, row: int, rng: np.random.Generator) -> Query:
    """Return a query for something, of a colour or a wider word, mostly with the place."""
    place = int(truth.places[row]) if rng.random() < 0.8 else -1
    colour, kinds = int(truth.colours[row, 0]), THINGS[int(truth.things[row, 0])].kinds
    chance = rng.random()
    if kinds and chance < 0.4:
        query = replace(name_kind(kinds[int(rng.integers(len(kinds)))]), place=place)
        return replace(query, colour=colour) if colour != NATURAL and chance < 0.1 else query
    everything = tuple(range(len(THINGS)))
    if colour != NATURAL and chance < 0.7:
        return Query(everything, colour=colour, place=place)
    return Query(everything, place=int(truth.places[row]))


def altered(query: Query, rng: np.random.Generator) -> Query:
    """Return the query with one part changed: the hardest negatives."""
    options = []
    if query.noun:
        options += ["thing"] * 3
    if query.colour >= 0:
        options += ["colour"] * 3
    if query.place >= 0:
        options.append("place")
    if query.count > 0:
        options.append("count")
    if query.other is not None:
        options += ["other"] * 2
    if not options:
        return Query(place=int(rng.integers(len(PLACE_NAMES))))
    part = options[int(rng.integers(len(options)))]
    if part == "thing":
        new = name_thing(int(rng.integers(len(THINGS))), rng)
        return replace(query, things=new.things, noun=new.noun, plural=new.plural)
    if part == "colour":
        return replace(query, colour=int(rng.integers(len(COLOUR_NAMES))))
    if part == "place":
        return replace(query, place=int(rng.integers(len(PLACE_NAMES))))
    if part == "count":
        return replace(query, count=int(rng.integers(1, 5)))
    return replace(query, other=name_thing(int(rng.integers(len(THINGS))), rng))


# --- words that name nothing here -----------------------------------------------------------


def world_words() -> set[str]:
    """Return every single word that this world uses, and those too near to be called wrong."""
    found = set(read_words("related_words.txt"))
    for thing in THINGS:
        found.update(*(w.split() for w in thing.words + thing.plurals + thing.kinds))
    found.update(KINDS, KINDS.values(), COLOUR_NAMES, *COLOUR_WORDS.values())
    for nouns, positions in PLACES.values():
        found.update(*(w.split() for w in nouns + positions))
    for template in TEMPLATES:
        found.update(template.format(x="").split())
    found |= {word[:-1] + "ies" for word in found if word.endswith("y")}
    return found | {word + "s" for word in found} | {"something", "thing"}


def strange_words(word_list: Path) -> list[str]:
    """Return dictionary words that name nothing in this world and are not kept for evaluation.

    Raises:
        FileNotFoundError: If there is no word list; the message says what to install.
    """
    if not word_list.exists():
        raise FileNotFoundError(f"no word list at {word_list}; on Debian: apt install wamerican")
    known = world_words()
    kept = load_config("evaluation.toml")["absent"]["words"]
    stems = tuple(word[: max(5, len(word) - 2)] for word in kept)
    exact = set(kept) | {plural_of(word) for word in kept}
    words = []
    for word in word_list.read_text(encoding="utf-8").split("\n"):
        if not re.fullmatch(r"[a-z]{3,13}", word) or word in known or word in exact:
            continue
        if any(word.startswith(stem) for stem in stems):
            continue
        if any(
            word == k + end
            for k in (word[:-1], word[:-2], word[:-3])
            if k in known
            for end in ("s", "es", "d", "ed", "ing", "y", "er", "ish", "like")
        ):
            continue
        words.append(word)
    return words


def strange_query(words: list[str], rng: np.random.Generator) -> tuple[Query, str]:
    """Return words for something this world does not have, and the query that nothing matches."""
    chance = rng.random()
    if chance < 0.06:
        low, high = (0x400, 0x44F) if rng.random() < 0.5 else (0x4E00, 0x9FA5)
        text = "".join(chr(int(c)) for c in rng.integers(low, high, size=rng.integers(1, 8)))
        return Query(strange=True), text
    if chance < 0.14:
        letters = rng.integers(97, 123, size=int(rng.integers(2, 11)))
        noun = "".join(chr(int(c)) for c in letters)
    elif chance < 0.28:
        noun = " ".join(words[int(i)] for i in rng.integers(len(words), size=2))
    else:
        noun = words[int(rng.integers(len(words)))]
    query = Query(noun=noun, plural=noun if noun.endswith("s") else noun + "s", strange=True)
    if chance > 0.5:
        if rng.random() < 0.5:
            query = replace(query, colour=int(rng.integers(len(COLOUR_NAMES))))
        if rng.random() < 0.35:
            query = replace(query, place=int(rng.integers(len(PLACE_NAMES))))
        if rng.random() < 0.1:
            query = replace(query, count=int(rng.integers(1, 5)))
    if rng.random() < 0.25:
        return query, in_other_words(query, rng, words)
    return query, say(query, rng)


# --- judging --------------------------------------------------------------------------------


def _place_table() -> Float:
    """Truth of (shown, asked) places."""
    table = np.eye(len(PLACE_NAMES), dtype=np.float32)
    for asked, shown in PLACE_ALSO.items():
        for place in shown:
            table[PLACE_ID[place], PLACE_ID[asked]] = 0.5
    return table


def _backdrop_table() -> Float:
    table = np.zeros((len(PLACE_NAMES), len(THINGS)), np.float32)
    for place, things in BACKDROP_SHOWS.items():
        for thing in things:
            table[PLACE_ID[place], THING_ID[thing]] = 1
    return table


_PLACE_TABLE = _place_table()
_BACKDROP_TABLE = _backdrop_table()
# Truth of a count: rows what is shown (0-4), columns what is asked (PLURAL, 1-4, then any).
_COUNT_TABLE = np.zeros((5, 6), np.float32)
for _shown in range(5):
    _COUNT_TABLE[_shown, PLURAL] = 1 if _shown > 1 else 0.5
    _COUNT_TABLE[_shown, 5] = 1
    if _shown:
        _COUNT_TABLE[_shown, _shown] = 1


def _phrase_truths(truth: Truth, queries: list[Query], natural: Float) -> Float:
    wanted = np.zeros((len(queries), len(THINGS) + 1), np.float32)  # Last column: no thing.
    for j, query in enumerate(queries):
        wanted[j, list(query.things)] = 1
    colour = np.array([query.colour for query in queries])
    count = np.array([5 if query.count < 0 else query.count for query in queries])
    several = np.array([len(query.things) > 1 and query.count >= 0 for query in queries])
    colour_truth = np.concatenate([natural, np.zeros((1, natural.shape[1]), np.float32)])
    best = np.zeros((len(truth), len(queries)), np.float32)
    in_both = np.ones_like(best)
    for slot in range(2):
        thing = truth.things[:, slot]
        fits = wanted[:, thing].T
        in_both *= fits
        tinted = np.eye(len(COLOUR_NAMES) + 1, dtype=np.float32)[truth.colours[:, slot]]
        shown = np.where(
            (truth.colours[:, slot] == NATURAL)[:, None],
            colour_truth[thing],
            tinted[:, : len(COLOUR_NAMES)],
        )
        shown = np.concatenate([shown, np.ones((len(truth), 1), np.float32)], 1)  # -1: any.
        counted = _COUNT_TABLE[np.maximum(truth.counts[:, slot], 0)][:, count]
        best = np.maximum(best, np.minimum(np.minimum(fits, shown[:, colour]), counted))
    best = np.where(several & (in_both > 0), np.maximum(best, 0.5), best)
    beside = np.max([wanted[:, truth.distractors[:, k]].T for k in range(3)], axis=0)
    behind = _BACKDROP_TABLE[truth.places] @ wanted[:, :-1].T
    return np.asarray(np.maximum(best, 0.5 * np.minimum(np.maximum(beside, behind), 1)))


def truths(truth: Truth, queries: list[Query], natural: Float) -> Float:
    """Judge every picture against every query.

    Args:
        truth: What the pictures show.
        queries: What is asked for.
        natural: `Art.natural_colours`.

    Returns:
        Shape (pictures, queries): 1 match, 0.5 neither right nor wrong, 0 no match.
    """
    result = np.ones((len(truth), len(queries)), np.float32)
    about = np.array([bool(query.things) for query in queries])
    result[:, about] = _phrase_truths(truth, [q for q in queries if q.things], natural)
    others = [j for j, query in enumerate(queries) if query.other is not None]
    if others:
        second = [query.other for query in queries if query.other is not None]
        result[:, others] = np.minimum(result[:, others], _phrase_truths(truth, second, natural))
    placed = np.array([query.place for query in queries])
    fits = _PLACE_TABLE[truth.places][:, placed]
    result = np.where(placed >= 0, np.minimum(result, fits), result)
    result[:, [query.strange for query in queries]] = 0
    return np.asarray(result, dtype=np.float32)


def natural_colours(folder: Path | None = None) -> Float:
    """Return `Art.natural_colours`, kept in `folder` so that the fonts are read once."""
    kept = None if folder is None else folder / "natural_colours.npy"
    if kept is not None and kept.exists():
        return np.asarray(np.load(kept), dtype=np.float32)
    table = Art().natural_colours
    if kept is not None:
        np.save(kept, table)
    return table
