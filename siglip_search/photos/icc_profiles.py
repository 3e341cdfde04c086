"""ICC profiles for the colour spaces that files name by a number instead of carrying a profile."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# CIE 1931 (x, y) of red, green, blue and white, by the number that ITU-T H.273 gives them.
_D65 = (0.3127, 0.3290)
_PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),  # BT.709 and sRGB
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020 and BT.2100
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # SMPTE RP 431-2
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_ADOBE_RGB = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), _D65)

_PCS_WHITE = np.array([0.9642, 1.0, 0.8249])  # D50, ICC.1:2010, 7.2.16

# From one white to another as the eye does it (Bradford; ICC.1:2010, annex E).
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

_CURVE_SAMPLES = 4096

# BT.2408: white paper in a scene of high dynamic range, in cd/m2.
_REFERENCE_WHITE = 203.0

# Up to this share of white the light stays as it is; what is brighter is compressed below 1.
_KNEE = 0.6


@lru_cache(maxsize=32)
def cicp_profile(primaries: int, transfer: int) -> bytes | None:
    """Return the profile of a colour space that is named by the numbers of ITU-T H.273.

    High dynamic range (PQ, HLG) is brought to that of a screen: its light is taken relative to
    white paper, and what is brighter approaches the screen's white.

    Returns:
        None for sRGB, for what is as good as sRGB (the curves of television on sRGB's primaries)
        and for what is not known.
    """
    curve = _CURVES.get(transfer)
    if primaries not in _PRIMARIES or (primaries == 1 and curve is None):
        return None
    return _profile(_PRIMARIES[primaries], curve or _srgb_light)


@lru_cache(maxsize=1)
def adobe_rgb_profile() -> bytes:
    """Return a profile with the primaries and the gamma of Adobe RGB (1998)."""
    return _profile(_ADOBE_RGB, _power(563 / 256))


def _profile(primaries: tuple[tuple[float, float], ...], curve: Curve) -> bytes:
    """Assemble an ICC profile, version 2, of a display with three primaries and one curve."""
    colorants = _colorants(primaries)
    light = np.clip(curve(np.linspace(0, 1, _CURVE_SAMPLES)), 0, 1)
    samples = np.rint(light * 65535).astype(">u2").tobytes()
    trc = struct.pack(">4sII", b"curv", 0, _CURVE_SAMPLES) + samples
    tags = {
        b"desc": struct.pack(">4sII", b"desc", 0, 1) + b"\0" * (1 + 4 + 4 + 2 + 1 + 67),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_PCS_WHITE),
        b"rXYZ": _xyz(colorants[:, 0]),
        b"gXYZ": _xyz(colorants[:, 1]),
        b"bXYZ": _xyz(colorants[:, 2]),
        b"rTRC": trc,
        b"gTRC": trc,
        b"bTRC": trc,
    }
    table, data = b"", b""
    places: dict[bytes, int] = {}
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(data)
            data += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3I48x",
        *(128 + len(body), b"\0" * 4, 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp"),
        *(_s15_fixed16(value) for value in _PCS_WHITE),
    )
    return header + body


def _colorants(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Return the XYZ of red, green and blue under D50, shape (3 of XYZ, 3 colours)."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    colours, white = xyz[:, :3], xyz[:, 3]
    to_xyz = colours * np.linalg.solve(colours, white)
    gains = (_BRADFORD @ _PCS_WHITE) / (_BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ to_xyz
    return adapted


def _xyz(values: NDArray[Any]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(_s15_fixed16(value) for value in values))


def _s15_fixed16(value: float) -> int:
    return round(value * 65536)


def _srgb_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _power(exponent: float) -> Curve:
    return lambda signal: signal**exponent


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084 as BT.2100 has it, then compressed."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    nits = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return _compressed(nits / _REFERENCE_WHITE)


def _hlg_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100's HLG on a screen of 1,000 cd/m2, then compressed."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return _compressed(1_000 * scene**1.2 / _REFERENCE_WHITE)


def _compressed(light: NDArray[np.float64]) -> NDArray[np.float64]:
    room = 1 - _KNEE
    bright = _KNEE + room * -np.expm1(-(np.maximum(light, _KNEE) - _KNEE) / room)
    return np.where(light <= _KNEE, light, bright)


# By the number that ITU-T H.273 gives the transfer characteristics. The curves of television (1,
# 6, 14, 15) and sRGB's own (13) are left out: pictures that state them are meant to look alike.
_CURVES: dict[int, Curve] = {
    4: _power(2.2),
    5: _power(2.8),
    8: lambda signal: signal,
    16: _pq_light,
    18: _hlg_light,
}
