"""Whether a compiled context is for this chip and this runtime.

The emulator runs any chip's context, and the provider on x86 skips its own check, so nothing but
the file's metadata tells that a context is another chip's. The metadata, as the provider writes it
(`qnn_cache_compatibility_manager.cc` in the onnxruntime-qnn repository):

    v2:BACKEND:QAIRT:BACKEND_API:ARCH,…:SOC,…:VTCM,…:BY_DRIVER
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from siglip_search.towers.qnn_target import Target

_HTP_BACKEND: Final = "6"
_UNKNOWN_SOC: Final = frozenset({0, 2**31 - 1})
"""What a device's own driver writes in place of the chip's number."""


@dataclass(frozen=True, slots=True)
class CompiledFor:
    """What a context says of itself.

    Attributes:
        qairt: Version of the runtime that compiled it, such as "2.51.0".
        targets: Chips that it runs on; `soc_model` is 0 where only the processor's version is
            known.
        by_driver: Compiled by a device's own driver instead of the wheel's libraries.
    """

    qairt: str
    targets: tuple[Target, ...]
    by_driver: bool


def compiled_for(compatibility: str) -> CompiledFor:
    """Parse a context's metadata.

    Raises:
        ValueError: If it is of another layout, or for another backend than the NPU's.
    """
    fields = compatibility.split(":")
    if len(fields) != 8 or fields[0] != "v2":
        raise ValueError("of an unknown layout")
    _, backend, qairt, _, archs, socs, _, by_driver = fields
    if backend != _HTP_BACKEND:
        raise ValueError("for another backend than the NPU's")
    pairs = zip(socs.split(","), archs.split(","), strict=True)
    targets = tuple(
        Target(0 if int(soc) in _UNKNOWN_SOC else int(soc), int(arch)) for soc, arch in pairs
    )
    return CompiledFor(qairt, targets, by_driver == "1")


def refusal(compatibility: str | None, target: Target | None, qairt: str) -> str | None:
    """Return why a context must not be used here, or None if it fits.

    Args:
        compatibility: The context's metadata; None if it has none.
        target: This chip; None if it is not known.
        qairt: Version of the runtime that is installed. A newer one would read older contexts,
            but nothing would show it if one of them came out wrong, and compiling costs a minute.
    """
    if compatibility is None:
        return "it does not say which chip it was compiled for"
    try:
        made = compiled_for(compatibility)
    except ValueError as error:
        return f"what it says of the chip it was compiled for is {error}"
    chips = " or ".join(str(one) for one in made.targets)
    if target is None:
        return f"it was compiled for {chips}, and this chip is not known"
    if made.by_driver:
        return "it was compiled by a device's own driver"
    fits = any(
        one.htp_arch == target.htp_arch and one.soc_model in {0, target.soc_model}
        for one in made.targets
    )
    if not fits:
        return f"it was compiled for {chips}, and this is {target}"
    if made.qairt != qairt:
        return f"it was compiled by QAIRT {made.qairt}, and {qairt} is installed"
    return None
