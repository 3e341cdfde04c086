"""A preparation that ends its process over some pictures, for the tests of quarantine."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image


class MarksItsPictures:
    """A preparation that ends its process over pictures that are marked by their width.

    Those of 11 pixels end it always, those of 13 until it has been ended twice; those of 17 take
    longer than any limit.
    """

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        kills = image.width == 11
        if image.width == 13:
            kills = len(list(self.notes.iterdir())) < 2
            (self.notes / str(time.monotonic_ns())).touch()
        if image.width == 17:
            (self.notes / str(time.monotonic_ns())).touch()
            time.sleep(600)
        if kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(image.resize((4, 4)))
