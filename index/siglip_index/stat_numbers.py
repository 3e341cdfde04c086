"""Numbers of stat calls, which can exceed what SQLite keeps as an integer."""

from __future__ import annotations

_INT64 = range(-(2**63), 2**63)


def storable_integer(value: int | None) -> int | str | None:
    """Return a number as SQLite can keep it: as text when it exceeds 64 signed bits."""
    return value if value is None or value in _INT64 else str(value)
