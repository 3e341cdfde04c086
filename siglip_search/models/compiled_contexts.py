"""Where a model's folder keeps its towers as compiled for NPUs: `contexts/CHIP/TOWER.onnx`.

Each of these is a few hundred bytes that name a binary beside it, and that say in their metadata
which chip and which version of the runtime it is for: opening one checks that. One folder for each
chip, so that both towers of it appear and are replaced at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

Tower = Literal["vision", "text"]

CONTEXTS_FOLDER: Final = "contexts"


def compiled_contexts(directory: Path, tower: Tower) -> tuple[Path, ...]:
    """Return the compiled contexts of one tower, whichever chips they are for.

    Args:
        directory: The model's folder.
        tower: Which of the two.
    """
    # Names that begin with a dot are folders that are being filled.
    return tuple(sorted(directory.glob(f"{CONTEXTS_FOLDER}/[!.]*/{tower}.onnx")))


def chip_folder(target: str) -> str:
    """Return the folder of a chip.

    Args:
        target: Its name, or its numbers as "soc=60,arch=73".
    """
    return target.replace("=", "").replace(",", "-")
