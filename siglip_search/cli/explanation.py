"""How `index --explain` says what would happen to a file or folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_search.cli.console import count, print_json, shown

if TYPE_CHECKING:
    from siglip_search.engine.explain import Explanation

_COUNTED = {
    "new": "to be read and added",
    "changed": "to be read again",
    "not-embedded": "to be read for this model",
    "moved": "moved, not read again",
    "returned": "back, not read again",
    "unchanged": "unchanged",
    "companion": "that belong to one of them",
    "known-failure": "that could not be read before",
    "online-only": "only in the cloud",
    "missing-extra": "that wait for an extra",
    "no-picture": "that are no pictures",
    "unreadable": "that cannot be looked at",
}


def print_explanation(explanation: Explanation, *, as_json: bool) -> None:
    """Print it, as one JSON object or for a person."""
    if as_json:
        print_json(
            {
                "path": explanation.path,
                "root": explanation.root,
                "taken": explanation.taken,
                "rule": explanation.rule,
                "reason": explanation.reason,
                "decided_at": explanation.decided_at,
                "pattern": explanation.pattern,
                "source": explanation.source,
                "line": explanation.line,
                "counts": explanation.counts,
            }
        )
        return
    print(f"{shown(explanation.path)}: {'taken' if explanation.taken else 'left out'}")
    if explanation.decided_at is not None:
        print(f"  because of {shown(explanation.decided_at)}")
    print(f"  {shown(explanation.reason)}")
    for rule, number in explanation.counts.items():
        print(f"  {count(number, 'file')} {_COUNTED[rule]}")
