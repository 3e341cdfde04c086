"""What the parity table takes for a failure; its figures need the libraries."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("parity_table")


def figures(**change: Any) -> dict[str, Any]:
    return {
        "vision": [3e-7, 1e-8],
        "text": [2e-7, 1e-8],
        "closest_pictures": 0.9,
        "closest_texts": 0.95,
        "other_gelu": {"vision": 4e-5, "text": 3e-5},
        "other_epsilon": {"vision": 1e-7, "text": 3e-4},
    } | change


def test_equal_towers_pass(parity: ModuleType) -> None:
    assert parity.verdict(figures()) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"text": [3e-6, 1e-8]}, "the text tower differs"),
        ({"vision": [float("nan"), 1e-8]}, "the vision tower differs"),
        ({"closest_texts": 0.995}, "the comparison says nothing"),
        ({"other_gelu": {"vision": 1e-6, "text": 1e-6}}, "other_gelu was not seen"),
    ],
)
def test_a_comparison_that_fails_or_proves_nothing_is_named(
    parity: ModuleType, change: dict[str, Any], complaint: str
) -> None:
    (wrong,) = parity.verdict(figures(**change))
    assert complaint in wrong


def test_the_document_has_a_place_for_the_table(parity: ModuleType) -> None:
    document = parity.DOCUMENT.read_text(encoding="utf-8")
    assert document.count(parity.BEGIN) == document.count(parity.END) == 1
