"""The real command, which keeps a record of every picture that its tower embeds.

    python counted_command.py RECORD watch ...

Nothing else differs. A line is written when the embedding is done and survives SIGKILL, so that
embeddings that no commit kept are seen as well.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

from siglip_search.cli import main
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from typing import Any

DIGEST_BYTES = 16


def keep_record(path: str) -> None:
    """Have the tower append a digest of the pixels of each picture to a file."""
    record = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    embed = VisionTower.embed_with_provenance

    def recorded(tower: VisionTower, pixels: Any) -> Any:
        embedded = embed(tower, pixels)
        for picture in pixels:
            os.write(record, hashlib.blake2b(picture.tobytes(), digest_size=DIGEST_BYTES).digest())
        return embedded

    def tried(tower: VisionTower, pixels: Any) -> Any:
        return embed(tower, pixels).vectors  # a trial of the tower is no picture of anybody's

    VisionTower.embed_with_provenance = recorded  # type: ignore[method-assign]
    VisionTower.embed = tried  # type: ignore[method-assign]


if __name__ == "__main__":
    keep_record(sys.argv.pop(1))
    main()
