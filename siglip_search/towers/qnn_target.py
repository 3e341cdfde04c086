"""Which Qualcomm chips there are, and which options their NPU takes.

The provider's library accepts unknown options and values without a word, so they are judged here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Target:
    """The chip that a graph is prepared for.

    Attributes:
        soc_model: Qualcomm's number of the chip, > 0.
        htp_arch: Version of its Hexagon tensor processor, one of `HTP_ARCHS`.
    """

    soc_model: int
    htp_arch: int

    @property
    def name(self) -> str:
        """Its name in `CHIPS`, or "soc=60,arch=73": `find_target` reads both."""
        known = (name for name, chip in CHIPS.items() if chip.target == self)
        return next(known, f"soc={self.soc_model},arch={self.htp_arch}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip by the names that people and systems give it.

    Attributes:
        target: Its numbers.
        title: Its name in shops, with its part number.
        markers: Found, in lower case, in what Linux (device tree) or Windows (registry) calls it.
    """

    target: Target
    title: str
    markers: tuple[str, ...] = ()


HTP_ARCHS: Final = (68, 69, 73, 75, 79, 81)
"""QnnHtpDevice_Arch_t of QAIRT 2.51, as far as onnxruntime-qnn's wheels have skeletons for it."""

# Numbers: Qnn_SocModel_t in QAIRT's QnnTypes.h; the processor's version of each: `qc_schema.py`
# in ExecuTorch's Qualcomm backend (2026-09). X2 Elite, which neither lists: what QAIRT reports on
# one (socModel 88, dspArch 81). Each row but for float graphs on V68 was compiled for with the
# emulator of onnxruntime-qnn 2.7.0. Markers: the `compatible` strings of Linux's device trees
# (Documentation/devicetree/bindings/arm/qcom.yaml) and the part numbers in Windows' processor
# names; none was verified on a machine.
CHIPS: Final = {
    "x-elite": Chip(
        Target(60, 73),
        "Snapdragon X Elite (SC8380XP)",
        ("x1e", "x1p64", "sc8380xp"),
    ),
    "x2-elite": Chip(
        Target(88, 81),
        "Snapdragon X2 Elite (SC8480XP)",
        ("x2e", "glymur", "sc8480xp"),
    ),
    "8cx-gen3": Chip(Target(37, 68), "Snapdragon 8cx Gen 3 (SC8280XP)", ("8cx gen 3", "sc8280xp")),
    "8gen1": Chip(Target(36, 69), "Snapdragon 8 Gen 1 (SM8450)", ("sm8450",)),
    "8gen2": Chip(Target(43, 73), "Snapdragon 8 Gen 2 (SM8550)", ("sm8550",)),
    "8gen3": Chip(Target(57, 75), "Snapdragon 8 Gen 3 (SM8650)", ("sm8650",)),
    "8elite": Chip(Target(69, 79), "Snapdragon 8 Elite (SM8750)", ("sm8750",)),
    "8elite-gen5": Chip(Target(87, 81), "Snapdragon 8 Elite Gen 5 (SM8850)", ("sm8850",)),
    "qcs9100": Chip(Target(77, 73), "Dragonwing IQ9 (QCS9100)", ("qcs9100", "qcs9075", "sa8775p")),
    "qcm6490": Chip(Target(93, 68), "Dragonwing QCM6490", ("qcm6490", "qcs6490")),
}
"""Chips by the names that `--target` takes."""

DEFAULT_TARGET: Final = CHIPS["x-elite"].target
"""What the emulator plays unless told otherwise."""

PERFORMANCE_MODES: Final = frozenset(
    {
        "balanced",
        "burst",
        "default",
        "extreme_power_saver",
        "high_performance",
        "high_power_saver",
        "low_balanced",
        "low_power_saver",
        "power_saver",
        "sustained_high_performance",
    }
)

# Provider options of onnxruntime-qnn (docs/execution_providers/QNN-ExecutionProvider.md in its
# repository) that a tower has a use for. `backend_type` has more values there: on the wheels' cpu,
# gpu, ir and saver nothing runs, or garbage comes out without an error.
_OPTION_VALUES: Final = {
    "backend_type": frozenset({"htp"}),
    "htp_arch": frozenset(str(arch) for arch in HTP_ARCHS),
    "htp_performance_mode": PERFORMANCE_MODES,
    "htp_graph_finalization_optimization_mode": frozenset({"0", "1", "2", "3"}),
    "qnn_context_priority": frozenset({"low", "normal", "normal_high", "high"}),
}
_SOC_MODEL: Final = "soc_model"


def find_target(text: str) -> Target:
    """Return the target called `text`: a key of `CHIPS`, or "soc=60,arch=73".

    Raises:
        DeviceError: If there is none.
    """
    chip = CHIPS.get(text.strip().lower())
    if chip is not None:
        return chip.target
    numbers = re.fullmatch(r"soc=([0-9]{1,9}),arch=v?([0-9]{1,3})", text.strip().lower())
    if numbers is None:
        raise DeviceError(
            f"no chip is called {text!r}",
            hint=f"Known are {', '.join(CHIPS)}; any other as soc=60,arch=73.",
        )
    soc_model, htp_arch = int(numbers[1]), int(numbers[2])
    checked_options({_SOC_MODEL: str(soc_model), "htp_arch": str(htp_arch)})
    return Target(soc_model, htp_arch)


def target_named_by(description: str) -> Target | None:
    """Return the chip that a system's description of its processor speaks of, if it is known."""
    lowered = description.lower()
    for chip in CHIPS.values():
        if any(marker in lowered for marker in chip.markers):
            return chip.target
    return None


def provider_options(target: Target | None, extra: Mapping[str, str]) -> dict[str, str]:
    """Return what the provider is told.

    Args:
        target: The chip; None lets the driver find it, which only quantised graphs bear.
        extra: More of its options.

    Raises:
        DeviceError: If an option or a value is not known.
    """
    options = {"backend_type": "htp"}
    if target is not None:
        options |= {_SOC_MODEL: str(target.soc_model), "htp_arch": str(target.htp_arch)}
    return checked_options(options | dict(extra))


def checked_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options as they are, if the provider would obey each.

    Raises:
        DeviceError: If an option or a value is not known, or the chip's two numbers contradict.
    """
    for key, value in options.items():
        if key == _SOC_MODEL:
            _check_chip(value, options.get("htp_arch"))
        elif key not in _OPTION_VALUES:
            raise DeviceError(
                f"the NPU has no option {key!r}",
                hint=f"There are {', '.join(sorted([*_OPTION_VALUES, _SOC_MODEL]))}.",
            )
        elif value not in _OPTION_VALUES[key]:
            raise DeviceError(
                f"the NPU's option {key} cannot be {value!r}",
                hint=f"It can be {', '.join(sorted(_OPTION_VALUES[key]))}.",
            )
    return dict(options)


def _check_chip(soc_model: str, htp_arch: str | None) -> None:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", soc_model):
        raise DeviceError(
            f"{soc_model!r} is no number of a chip", hint=f"Known are {_numbers_in_words()}."
        )
    for chip in CHIPS.values():
        right = chip.target.htp_arch
        if chip.target.soc_model == int(soc_model) and htp_arch not in {None, str(right)}:
            raise DeviceError(
                f"chip {soc_model}, {chip.title}, has a processor of version {right}, "
                f"not {htp_arch}",
                hint=f"Known are {_numbers_in_words()}.",
            )


def _numbers_in_words() -> str:
    return ", ".join(f"{chip.target.soc_model} ({name})" for name, chip in CHIPS.items())
