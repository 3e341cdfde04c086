"""The most memory that a process has held: its own, and not that of whoever started it."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from siglip_search.towers.process_memory import peak_memory_bytes

LARGE: Final = 300_000_000
TELL: Final = (
    "from siglip_search.towers.process_memory import peak_memory_bytes; print(peak_memory_bytes())"
)
# A parent that holds much and starts a child that holds little.
PARENT: Final = f"""
import subprocess, sys
held = b"x" * {LARGE}
child = subprocess.run([sys.executable, "-c", {TELL!r}], stdout=subprocess.PIPE, check=True)
from siglip_search.towers.process_memory import peak_memory_bytes
print(peak_memory_bytes(), child.stdout.decode())
"""

told_here = pytest.mark.skipif(
    sys.platform not in {"linux", "win32"}, reason="measured under Linux and Windows"
)


@told_here
def test_a_child_of_a_large_process_does_not_inherit_its_peak() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, check=True)
    parent, child = map(int, done.stdout.split())
    assert parent > LARGE
    assert 5_000_000 < child < LARGE // 2


@told_here
def test_the_peak_never_falls() -> None:
    before = peak_memory_bytes()
    assert before is not None
    assert (peak_memory_bytes() or 0) >= before
