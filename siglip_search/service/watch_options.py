"""How folders are followed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to follow.

    Attributes:
        poll: Look at every folder again and again; None where its drive makes that necessary.
        poll_seconds: How often, > 0.
        settle_seconds: How long nothing may happen to a file before it counts as whole, >= 0.
        reconcile_every_seconds: How often all folders are looked through, > 0.
        idle_unload_seconds: After so long without work models leave the memory, > 0.
        min_free_bytes: With less room than this on the library's disk nothing is indexed, >= 0.
    """

    poll: bool | None = None
    poll_seconds: float = 30.0
    settle_seconds: float = 1.0
    reconcile_every_seconds: float = 6 * 3600.0
    idle_unload_seconds: float = 300.0
    min_free_bytes: int = 500_000_000
