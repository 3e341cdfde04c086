"""What the ranges of a tower's activations are measured on: one row at a time.

Pictures are the user's own and a few plain ones, which real collections hold too (a lens cap, a
scanned empty page) and which reach further than photographs: at 16 bits, wider ranges cost
nothing. Texts are these captions, which are none of the queries that variants
are judged by, and as different as texts are: long and short, none at all, in other scripts.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.preprocess import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

_LINES: Final = """
tree
snow
red
laughter
winter 1987
a fox
an empty road
two green boats
my brother with his kite
a photo of a fox
a photo of many apples on a plate
a drawing of a ship in a storm
a blurry picture of the moon
a close-up of an eye
a black-and-white photograph of a street
the old mill behind our house
children throwing leaves at each other
a bowl of noodles with an egg and spring onions
the winner of the race holding up her medal
rain on the windscreen, lights of the cars behind it
somebody in a yellow coat walking a dog along a canal
grandfather's workbench with all his tools
a lake so still that the mountains stand on their heads
three goats on the roof of a barn
the view from our hotel room at five in the morning
a snowman with a carrot and a top hat
a cyclist, seen from behind, on a gravel track between vineyards
receipt from the hardware shop, 14.95
IMG_2043.JPG
screenshot 2024-11-03 at 17.22.05
WHERE DID WE PARK THE CAR?
no people, no cars, only the sea
something round & something square
50% off!!! (last day)
a "do not enter" sign; somebody has painted a smile on it
www.example.org
blue, white, blue, white, blue
the one with the funny hat
kitchen table, candle, letter, spectacles
a dish of olives / a jug of water / a loaf
Ein Hund springt ins Wasser
une ruelle étroite avec des volets bleus
una plaza llena de palomas
o gato dorme em cima do piano
båten ligger ved kaia
zachód słońca nad jeziorem
κόκκινες στέγες πάνω από το λιμάνι
старый трамвай на мосту
ילדים משחקים בחול
قارب صغير في الميناء
नदी के किनारे एक मंदिर
山顶上的雪
桜の下の自転車
비 오는 날의 시장
🎂 🎈 🎉
e4 e5 Nf3 Nc6 Bb5
lorem ipsum
0
a picture
a very long table in the garden of the inn, with paper lanterns in the apple trees above it, and \
all the cousins, aunts and neighbours around it, who have just noticed that somebody is standing \
on a chair to take a picture, so that half of them are looking up, some with full mouths, and \
the other half are still talking to each other about the weather, the harvest and the football
the harbour in the evening: in front the nets are being mended, in the middle a ferry turns \
around, behind it the cranes, the church, the hills, and above all of it a cloud like an anvil
a shelf with, from left to right, a globe, a row of dictionaries, a stuffed owl, a broken radio, \
two vases, a photograph of a wedding, a box of matches, a cactus, a candlestick and a sleeping cat
first the runners with the low numbers, then the others, then the ones in costumes, then a man \
with a dog, then nobody for a while, and then the van that picks up the cones
"""

CAPTIONS: Final = ("", *_LINES.strip().split("\n"))
"""What the text tower's activations are measured on."""


PLAIN_LEVELS: Final = (0, 85, 170, 255)
"""Of the evenly grey pictures."""


def plain_pictures(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return evenly grey pictures and a slope from black to white, shape (n, height, width, 3).

    With them, the least cosine on plain pictures of other greys, slopes and noise rose from 0.977
    to 0.998 for an earlier demonstration model; for the present one, and on drawings, they change
    nothing.
    """
    height, width = size
    even = [np.full((height, width, 3), level, np.uint8) for level in PLAIN_LEVELS]
    slope = np.linspace(0, 255, height).astype(np.uint8)
    return np.stack([*even, np.broadcast_to(slope[:, None, None], (height, width, 3))])


class Samples:
    """Inputs of one tower, given to ONNX Runtime's quantiser one at a time.

    Attributes:
        name: Of the tower's input.
        rows: Shape (n, ...), in the input's type.
    """

    def __init__(self, name: str, rows: NDArray[Any]) -> None:
        self.name = name
        self.rows = rows
        self._waiting = self.feeds()

    def feeds(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each row as a batch of one."""
        for row in self.rows:
            yield {self.name: row[None]}

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next row as a batch of one, None at the end, then all over again."""
        feed = next(self._waiting, None)
        if feed is None:
            self._waiting = self.feeds()
        return feed

    def first(self, number: int) -> Samples:
        """Return the first rows alone."""
        return Samples(self.name, self.rows[:number])


def picture_samples(spec: ModelSpec, pixels: Sequence[NDArray[np.uint8]], model: Any) -> Samples:
    """Return pictures, and the plain ones, as the picture tower takes them.

    Args:
        spec: The model.
        pixels: Prepared pictures, each of shape (1, height, width, 3); at least one.
        model: The static tower, an onnx.ModelProto.
    """
    vision = spec.vision
    pictures = np.concatenate([*pixels, plain_pictures(vision.image_size)])
    rows = normalise(pictures, mean=vision.mean, std=vision.std)
    return Samples(*_as_taken(model, rows))


def caption_samples(spec: ModelSpec, model: Any) -> Samples:
    """Return the captions as the text tower takes them.

    Args:
        spec: The model.
        model: The static tower, an onnx.ModelProto.
    """
    return Samples(*_as_taken(model, open_tokenizer(spec).encode(CAPTIONS)))


def digest(*samples: Samples) -> str:
    """Return eight digits that tell these samples from others: they move embeddings."""
    content = hashlib.sha256()
    for each in samples:
        content.update(np.ascontiguousarray(each.rows).tobytes())
    return content.hexdigest()[:8]


def _as_taken(model: Any, rows: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    from onnx.helper import tensor_dtype_to_np_dtype

    (fed,) = model.graph.input
    dtype = tensor_dtype_to_np_dtype(fed.type.tensor_type.elem_type)
    return fed.name, rows.astype(dtype, copy=False)
