"""Which installed models can go on on the processor when an NPU has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search.engine.chosen_model import all_installed
from siglip_search.towers.devices import is_compiled

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec, Precision

_BEST_FIRST: Final[tuple[Precision, ...]] = ("fp32", "fp16", "int8", "w8a16")
"""On the processor: the original itself, what is nearest to it, what is made for processors, and
what the processor can only simulate, as slowly as fp32."""


def substitutes_on_cpu(spec: ModelSpec) -> list[ModelSpec]:
    """Return the models whose picture towers make vectors of the same space on the processor.

    A variant that has not been shown to agree with its original is a space of its own, so only its
    own towers come into question. A compiled context runs on no processor.

    Args:
        spec: The model whose NPU failed.

    Returns:
        The best first; the model itself before others of its precision. May be empty.
    """
    others = [one for one in all_installed() if one.directory != spec.directory]
    same_space = [spec, *(one for one in others if one.space_key == spec.space_key)]
    return sorted(
        (one for one in same_space if not is_compiled(one.vision_path)),
        key=lambda one: _BEST_FIRST.index(one.vision.precision),
    )
