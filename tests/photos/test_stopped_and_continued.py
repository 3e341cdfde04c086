"""Ctrl-Z and fg, a frozen container, a computer that slept: no picture may be blamed for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from photos.drawn_pictures import quarters

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")

LIMIT_SECONDS = 2.0

# Longer than the limit of the parent, and than what a worker gives itself beyond that.
STOPPED_SECONDS = LIMIT_SECONDS + 6.0

PARENT = f"""
import sys
from photos import slow_preparer
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool

limits = DecodeLimits(max_seconds={LIMIT_SECONDS})
with DecodePool(slow_preparer.slowly, workers=1, limits=limits, min_side=None) as pool:
    pool.decode(sys.argv[1].encode()).result()
    slow = pool.decode(sys.argv[1].encode())
    print(*(worker._process.pid for worker in pool._workers), flush=True)
    print(slow.result().pixels.shape, flush=True)
"""


@pytest.mark.parametrize("who", ["the program", "the program and its workers"])
def test_time_that_was_not_given_does_not_count(tmp_path: Path, who: str) -> None:
    quarters(32, 8).save(tmp_path / "a.png")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "a.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            workers = [int(text) for text in parent.stdout.readline().split()]
            stopped = [parent.pid, *(workers if "workers" in who else [])]
            time.sleep(0.2)
            for process_id in stopped:
                os.kill(process_id, signal.SIGSTOP)
            time.sleep(STOPPED_SECONDS)
            for process_id in reversed(stopped):
                os.kill(process_id, signal.SIGCONT)
            out, error = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert out == "(8, 32, 3)\n", error
