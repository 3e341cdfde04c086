"""A preparation that takes its time, for the tests that stop and continue processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

SECONDS = 1.0


def slowly(image: Image.Image) -> NDArray[Any]:
    # In steps: a process that is stopped amid a sleep has slept by the time it goes on.
    for _ in range(20):
        time.sleep(SECONDS / 20)
    return np.asarray(image)
