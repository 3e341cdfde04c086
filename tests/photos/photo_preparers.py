"""What the tests let the pool's workers do with a decoded picture; found there by module name."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

# Pictures of these widths are marked.
KILLS_ITSELF, SLEEPS, EATS_MEMORY, HAS_A_BUG, REFUSED = 11, 12, 13, 14, 15


def to_array(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image)


def to_float_plane(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


def nothing(image: Image.Image) -> NDArray[Any]:
    return np.empty((0, 3), np.float32)


def misbehave(image: Image.Image) -> NDArray[Any]:
    if image.width == KILLS_ITSELF:
        os.kill(os.getpid(), signal.SIGKILL)
    if image.width == SLEEPS:
        time.sleep(600)
    if image.width == EATS_MEMORY:
        hoard = []
        while True:
            hoard.append(np.ones(2**24, np.uint8))
    if image.width == HAS_A_BUG:
        raise NameError("no such thing")
    if image.width == REFUSED:
        raise ValueError("too thin")
    return np.asarray(image)


def process_id(image: Image.Image) -> NDArray[Any]:
    return np.array([os.getpid()])


def loaded_modules(image: Image.Image) -> NDArray[Any]:
    return np.array(sorted(sys.modules))


def noisy(image: Image.Image) -> NDArray[Any]:
    for stream in (sys.stdout, sys.stderr):
        stream.write("noise\n")
        stream.flush()
    for descriptor in (1, 2):
        os.write(descriptor, b"noise\n")
    return np.asarray(image)


class EndsTheProcessOnArrival:
    """A preparer that cannot even be unpickled."""

    def __call__(self, image: Image.Image) -> NDArray[Any]:
        return np.asarray(image)

    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (7,))
