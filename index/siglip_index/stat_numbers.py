"""Numbers of stat calls, which can exceed what SQLite keeps as an integer."""

from __future__ import annotations

_INT64 = range(-(2**63), 2**63)


def storable_integer(value: int | None) -> int | str | None:
    """Return a number as SQLite can keep it: as text when it exceeds 64 signed bits."""
    return value if value is None or value in _INT64 else str(value)


def storable_nanoseconds(epoch_s: float) -> int:
    """Return the least time as it is stored that is not before this one.

    Beyond 64 signed bits it is the farthest of these.
    """
    numerator, denominator = max(-1e11, min(1e11, epoch_s)).as_integer_ratio()
    nanoseconds = -(-numerator * 10**9 // denominator)
    return max(_INT64[0], min(_INT64[-1], nanoseconds))
