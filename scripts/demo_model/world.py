"""What the demonstration world holds: things, colours, places and the words for them.

Facts only. `scenes` draws them, `captions` talks about them, and both agree on the order of the
tuples here, which is the order of the integer ids.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One thing that can be drawn and asked for.

    Attributes:
        name: The word that `gallery.json` uses.
        glyph: The emoji character, or "" for a shape drawn in code.
        words: Singular words for it, the name first.
        plurals: The plural of each word, in the same order.
        kinds: Wider words that are true of it ("animal").
    """

    name: str
    glyph: str
    words: tuple[str, ...]
    plurals: tuple[str, ...]
    kinds: tuple[str, ...]


_IRREGULAR = {
    "fish": "fish",
    "sheep": "sheep",
    "mouse": "mice",
    "butterfly": "butterflies",
    "bunny": "bunnies",
    "pony": "ponies",
    "puppy": "puppies",
    "kitty": "kitties",
    "strawberry": "strawberries",
    "cherry": "cherries",
    "lorry": "lorries",
    "grapes": "grapes",
    "bunch of grapes": "bunches of grapes",
    "glasses": "glasses",
    "scissors": "scissors",
    "eyeglasses": "eyeglasses",
    "pair of glasses": "pairs of glasses",
    "cactus": "cactuses",
    "octopus": "octopuses",
    "dress": "dresses",
    "bus": "buses",
    "trainer": "trainers",
    "box": "boxes",
    "cross": "crosses",
    "loaf of bread": "loaves of bread",
    "bread": "breads",
    "cup of coffee": "cups of coffee",
    "slice of pizza": "slices of pizza",
    "aircraft": "aircraft",
    "torch": "torches",
    "watch": "watches",
    "corn": "corn cobs",
}


def plural_of(word: str) -> str:
    """Return the plural of a word of this world."""
    return _IRREGULAR.get(word, word + "s")


def _thing(glyph: str, words: str, *kinds: str) -> Thing:
    singular = tuple(part.strip() for part in words.split(","))
    return Thing(singular[0], glyph, singular, tuple(plural_of(w) for w in singular), kinds)


THINGS: tuple[Thing, ...] = (
    # Animals.
    _thing("\U0001f415", "dog, puppy, hound", "animal", "pet"),
    _thing("\U0001f408", "cat, kitty", "animal", "pet"),
    _thing("\U0001f40e", "horse, pony", "animal"),
    _thing("\U0001f404", "cow", "animal"),
    _thing("\U0001f416", "pig", "animal"),
    _thing("\U0001f418", "elephant", "animal"),
    _thing("\U0001f407", "rabbit, bunny", "animal", "pet"),
    _thing("\U0001f42a", "camel", "animal"),
    _thing("\U0001f412", "monkey, ape", "animal"),
    _thing("\U0001f981", "lion", "animal"),
    _thing("\U0001f438", "frog", "animal"),
    _thing("\U0001f422", "turtle, tortoise", "animal"),
    _thing("\U0001f40d", "snake", "animal"),
    _thing("\U0001f419", "octopus", "animal"),
    _thing("\U0001f980", "crab", "animal"),
    _thing("\U0001f41f", "fish", "animal"),
    _thing("\U0001f40b", "whale", "animal"),
    _thing("\U0001f427", "penguin", "animal"),
    _thing("\U0001f986", "duck", "animal"),
    _thing("\U0001f989", "owl", "animal"),
    _thing("\U0001f413", "rooster, chicken", "animal"),
    _thing("\U0001f98b", "butterfly", "animal", "insect"),
    _thing("\U0001f41d", "bee", "animal", "insect"),
    _thing("\U0001f40c", "snail", "animal"),
    # Fruit and food.
    _thing("\U0001f34e", "apple", "fruit", "food"),
    _thing("\U0001f34c", "banana", "fruit", "food"),
    _thing("\U0001f347", "grapes, bunch of grapes", "fruit", "food"),
    _thing("\U0001f353", "strawberry", "fruit", "food"),
    _thing("\U0001f352", "cherry", "fruit", "food"),
    _thing("\U0001f34d", "pineapple", "fruit", "food"),
    _thing("\U0001f355", "pizza, slice of pizza", "food"),
    _thing("\U0001f354", "burger, hamburger", "food"),
    _thing("\U0001f382", "cake", "food"),
    _thing("\U0001f366", "ice cream", "food"),
    _thing("\U0001f955", "carrot", "food", "vegetable"),
    _thing("\U0001f33d", "corn", "food", "vegetable"),
    # Vehicles.
    _thing("\U0001f6b2", "bicycle, bike, cycle", "vehicle"),
    _thing("\U0001f697", "car, automobile", "vehicle"),
    _thing("\U0001f68c", "bus, coach", "vehicle"),
    _thing("\U0001f69a", "truck, lorry", "vehicle"),
    _thing("\U0001f69c", "tractor", "vehicle"),
    _thing("\U0001f682", "train, locomotive", "vehicle"),
    _thing("\u26f5", "boat, sailboat", "vehicle"),
    _thing("\u2708", "plane, airplane, aeroplane, aircraft", "vehicle"),
    _thing("\U0001f681", "helicopter", "vehicle"),
    _thing("\U0001f680", "rocket", "vehicle"),
    # Plants.
    _thing("\U0001f333", "tree", "plant"),
    _thing("\U0001f33b", "sunflower", "plant", "flower"),
    _thing("\U0001f339", "rose", "plant", "flower"),
    _thing("\U0001f335", "cactus", "plant"),
    _thing("\U0001f344", "mushroom, toadstool"),
    # Objects.
    _thing("\U0001f3e0", "house", "building"),
    _thing("\U0001f3f0", "castle", "building"),
    _thing("\u26fa", "tent"),
    _thing("\u2602", "umbrella, parasol"),
    _thing("\U0001f511", "key"),
    _thing("\u23f0", "clock, alarm clock"),
    _thing("\U0001f4f7", "camera"),
    _thing("\U0001f3b8", "guitar", "instrument"),
    _thing("\U0001f3ba", "trumpet", "instrument"),
    _thing("\U0001f941", "drum", "instrument"),
    _thing("\u26bd", "ball, football"),
    _thing("\U0001f388", "balloon"),
    _thing("\U0001f3a9", "hat, top hat", "clothes"),
    _thing("\U0001f45f", "shoe, sneaker, trainer", "clothes"),
    _thing("\U0001f455", "shirt, t shirt", "clothes"),
    _thing("\U0001f457", "dress", "clothes"),
    _thing("\U0001f453", "glasses, eyeglasses, pair of glasses"),
    _thing("\U0001f381", "gift, present"),
    _thing("\u2702", "scissors", "tool"),
    _thing("\U0001f528", "hammer", "tool"),
    _thing("\U0001f514", "bell"),
    _thing("\U0001f451", "crown"),
    _thing("\u2615", "cup, mug, cup of coffee"),
    _thing("\u26c4", "snowman"),
    # Shapes, drawn in code.
    _thing("", "circle, disc", "shape"),
    _thing("", "square", "shape"),
    _thing("", "triangle", "shape"),
    _thing("", "star", "shape"),
    _thing("", "heart", "shape"),
    _thing("", "cross", "shape"),
    _thing("", "ring", "shape"),
)

#: Wider words and their plurals.
KINDS: dict[str, str] = {
    "animal": "animals",
    "pet": "pets",
    "insect": "insects",
    "fruit": "fruits",
    "food": "food",
    "vegetable": "vegetables",
    "vehicle": "vehicles",
    "plant": "plants",
    "flower": "flowers",
    "building": "buildings",
    "instrument": "instruments",
    "clothes": "clothes",
    "tool": "tools",
    "shape": "shapes",
}

#: Each colour's reference in sRGB. The last id, `NATURAL`, means untinted.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 28, 34),
    "orange": (245, 130, 20),
    "yellow": (248, 212, 30),
    "green": (40, 150, 50),
    "blue": (32, 80, 210),
    "purple": (126, 44, 168),
    "pink": (250, 130, 180),
    "brown": (118, 72, 36),
    "black": (22, 22, 24),
    "white": (246, 246, 246),
    "grey": (132, 134, 138),
}
COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
NATURAL = len(COLOUR_NAMES)
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "grey": ("grey", "gray"),
    "purple": ("purple", "violet"),
}

#: Each place: (noun phrases, position phrases).
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "beach": (("the beach", "a beach"), ("on the beach", "at the beach", "on a beach")),
    "sea": (
        ("the sea", "the ocean"),
        ("in the sea", "at sea", "on the sea", "in the ocean"),
    ),
    "forest": (("a forest", "the woods"), ("in the forest", "in a forest", "in the woods")),
    "snow": (("snow", "a snowy field"), ("in the snow", "in snow", "on the snow")),
    "night": (("night", "a starry night"), ("at night", "in the night", "under the stars")),
    "city": (("the city", "a city", "a town"), ("in the city", "in a city", "in town")),
    "desert": (("the desert", "a desert", "dunes"), ("in the desert", "in a desert")),
    "meadow": (("a meadow", "grass"), ("in a meadow", "in the meadow", "on the grass")),
    "mountain": (
        ("mountains", "the mountains", "a mountain"),
        ("in the mountains", "by the mountains", "by a mountain"),
    ),
    "sunset": (("sunset", "a sunset"), ("at sunset", "in the sunset")),
    "rain": (("rain", "a rainy day"), ("in the rain", "in rain")),
    "sky": (("the sky", "a blue sky"), ("in the sky", "against the sky")),
    "room": (("a room", "the room"), ("in a room", "in the room", "indoors")),
    "plain": (("a plain background",), ("on a plain background",)),
}
PLACE_NAMES: tuple[str, ...] = tuple(PLACES)

#: A place whose backdrop may already show this: asking for it there is neither right nor wrong.
BACKDROP_SHOWS: dict[str, tuple[str, ...]] = {
    "forest": ("tree",),
    "city": ("house", "castle"),
    "sunset": ("circle",),
    "room": ("square",),
}

#: A place that other places show as well: asking for it there is neither right nor wrong.
PLACE_ALSO: dict[str, tuple[str, ...]] = {
    "sky": ("beach", "sea", "meadow", "mountain", "city"),
    "sea": ("beach",),
    "snow": ("mountain",),
    "night": ("sunset",),
    "rain": ("night",),
}

#: Colours that anyone would call an untinted drawing of the thing. Lesser colours in it are
#: neither right nor wrong; all others are wrong.
NATURAL_COLOURS: dict[str, tuple[str, ...]] = {
    "horse": ("brown", "orange"),
    "pig": ("pink",),
    "elephant": ("grey",),
    "camel": ("orange",),
    "monkey": ("brown",),
    "lion": ("brown",),
    "frog": ("green",),
    "turtle": ("green",),
    "snake": ("green",),
    "octopus": ("red",),
    "crab": ("orange",),
    "fish": ("blue",),
    "whale": ("blue",),
    "owl": ("brown",),
    "butterfly": ("orange",),
    "snail": ("brown",),
    "apple": ("red",),
    "banana": ("yellow",),
    "grapes": ("purple",),
    "strawberry": ("red",),
    "cherry": ("red",),
    "pineapple": ("yellow",),
    "carrot": ("orange",),
    "corn": ("yellow",),
    "car": ("red",),
    "tractor": ("green",),
    "helicopter": ("yellow",),
    "tree": ("green",),
    "sunflower": ("yellow",),
    "rose": ("red",),
    "cactus": ("green",),
    "mushroom": ("red", "orange"),
    "castle": ("grey",),
    "tent": ("orange",),
    "umbrella": ("blue", "purple"),
    "key": ("yellow",),
    "clock": ("red",),
    "guitar": ("red",),
    "trumpet": ("yellow",),
    "balloon": ("red",),
    "hat": ("black",),
    "shoe": ("blue",),
    "shirt": ("blue",),
    "dress": ("blue",),
    "bell": ("yellow",),
    "crown": ("yellow",),
    "cup": ("white",),
    "snowman": ("white",),
}

THING_NAMES: tuple[str, ...] = tuple(thing.name for thing in THINGS)
THING_ID: dict[str, int] = {name: i for i, name in enumerate(THING_NAMES)}
PLACE_ID: dict[str, int] = {name: i for i, name in enumerate(PLACE_NAMES)}
COLOUR_ID: dict[str, int] = {name: i for i, name in enumerate(COLOUR_NAMES)}


def things_of_kind(kind: str) -> tuple[int, ...]:
    """Return the ids of all things of which a wider word is true."""
    return tuple(i for i, thing in enumerate(THINGS) if kind in thing.kinds)
