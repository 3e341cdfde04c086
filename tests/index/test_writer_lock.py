"""One writer at a time, and none once its process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest
from stored_samples import fill

from siglip_index import open_store
from siglip_index.errors import LibraryBusyError
from siglip_index.lock import WriterLock, is_held

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, pathlib
from siglip_index import open_store
store = open_store(pathlib.Path(sys.argv[1]), writable=True)
print("holding", flush=True)
sys.stdin.read()
"""


def start_holder(directory: Path, script: str = HOLD) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    with start_holder(tmp_path) as process:
        with pytest.raises(LibraryBusyError, match=f"process {process.pid} ") as caught:
            open_store(tmp_path, writable=True)
        assert "searching works meanwhile" in caught.value.hint
        assert is_held(tmp_path)
        with open_store(tmp_path, writable=False) as reader:
            assert reader.counts().pictures == 0
        process.communicate("")
    assert not is_held(tmp_path)
    with open_store(tmp_path, writable=True) as store:
        fill(store, 1)


def test_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    with start_holder(tmp_path) as process:
        process.kill()
        process.wait()
    with open_store(tmp_path, writable=True) as store:
        fill(store, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_child_forked_by_a_killed_writer_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = """
        import os, sys, pathlib, time
        from siglip_index import open_store
        store = open_store(pathlib.Path(sys.argv[1]), writable=True)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        pathlib.Path(sys.argv[1], "child").write_text(str(child))
        time.sleep(0.2)
        print("holding", flush=True)
        time.sleep(60)
    """
    with start_holder(tmp_path, script) as process:
        child = int((tmp_path / "child").read_text())
        try:
            process.kill()
            process.wait()
            open_store(tmp_path, writable=True).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_same_process_cannot_write_twice(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True), pytest.raises(LibraryBusyError, match="process"):
        open_store(tmp_path, writable=True)


def test_waiting_writer_gets_the_lock_of_one_that_is_closing(tmp_path: Path) -> None:
    first = WriterLock(tmp_path)
    first.acquire()
    timer = threading.Timer(0.3, first.release)
    timer.start()
    second = WriterLock(tmp_path)
    second.acquire()
    second.release()
    timer.join()


def test_message_without_a_readable_holder_still_says_what_is_wrong(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.acquire()
    (tmp_path / "writer.json").write_bytes(b"\xff not json")
    with pytest.raises(LibraryBusyError, match="another process"):
        WriterLock(tmp_path).acquire()
    lock.release()
