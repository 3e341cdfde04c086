"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PASS: Final = "pass"
FAIL: Final = "fail"
NOT_POSSIBLE: Final = "not possible"


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    Attributes:
        status: `PASS`, `FAIL` or `NOT_POSSIBLE`.
        figures: What was measured, in the order in which it is to be read.
        advice: What to do about it; "" if nothing.
    """

    status: str
    figures: Mapping[str, str]
    advice: str = ""


class NotPossibleError(Exception):
    """A check cannot be made here; str() says why."""


def judged(passed: bool, figures: Mapping[str, str], advice: str) -> Outcome:
    """Return a pass, or a failure with what to do about it."""
    return Outcome(PASS, figures) if passed else Outcome(FAIL, figures, advice)
