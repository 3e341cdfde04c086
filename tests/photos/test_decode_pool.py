from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from photos import photo_preparers as preparers
from photos.drawn_pictures import quarters

from siglip_search.errors import NotAPictureError, UnreadablePictureError, WorkerError
from siglip_search.photos import decode_worker, worker_process
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.fingerprint import ChangedWhileReadError, TryAgainError, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.photos.worker_process import PreparedPicture

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limit of memory")
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

# Enough for the small pictures of these tests on a busy machine.
LIMITS = DecodeLimits(max_seconds=30, max_memory_bytes=256 * 1024**2)


def pool(
    prepare: Callable[..., Any] = preparers.to_array,
    *,
    workers: int = 1,
    limits: DecodeLimits = LIMITS,
    min_side: int | None = None,
) -> DecodePool:
    return DecodePool(prepare, workers=workers, limits=limits, min_side=min_side)


def picture(folder: Path, name: str = "a.png", *, width: int = 32) -> bytes:
    quarters(width, 8).save(folder / name)
    return os.fsencode(folder / name)


def failure(future: Future[PreparedPicture]) -> str:
    error = future.exception(timeout=60)
    assert isinstance(error, UnreadablePictureError)
    return str(error)


def worker_ids(decode_pool: DecodePool) -> list[int]:
    return [worker._process.pid for worker in decode_pool._workers]


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_picture_comes_back_hashed_with_facts_pixels_and_fingerprint(tmp_path: Path) -> None:
    path = picture(tmp_path)
    with pool() as decoders:
        result = decoders.decode(path).result(timeout=60)
    assert result.content_hash == hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()
    assert (result.facts.width, result.facts.height, result.facts.format) == (32, 8, "PNG")
    assert result.fingerprint == fingerprint(os.stat(path))
    assert np.array_equal(result.pixels, np.asarray(quarters(32, 8)))
    assert result.pixels.flags.writeable


@pytest.mark.parametrize(
    ("prepare", "shape", "dtype"),
    [
        (preparers.to_float_plane, (3, 8, 32), np.float32),
        (preparers.nothing, (0, 3), np.float32),
    ],
)
def test_pixels_may_have_any_shape_and_type(
    tmp_path: Path, prepare: Callable[..., Any], shape: tuple[int, ...], dtype: type
) -> None:
    with pool(prepare) as decoders:
        pixels = decoders.decode(picture(tmp_path)).result(timeout=60).pixels
    assert pixels.shape == shape
    assert pixels.dtype == dtype


def test_file_is_hashed_without_being_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    path = os.fsencode(tmp_path / "a.jpg")
    with pool() as decoders:
        digest, found = decoders.hash(path).result(timeout=60)
    assert digest == hashlib.sha256(b"no picture").digest()
    assert found == fingerprint(os.stat(path))


def test_many_pictures_keep_their_futures_apart(tmp_path: Path) -> None:
    files = [picture(tmp_path, f"{width}.png", width=width) for width in range(20, 60)]
    with pool(workers=2) as decoders:
        futures = [decoders.decode(path) for path in files]
        assert [f.result(timeout=60).pixels.shape[1] for f in futures] == list(range(20, 60))


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_names_of_any_bytes_are_decoded(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe new\nline.png"
    os.rename(picture(tmp_path), path)
    with pool() as decoders:
        assert decoders.decode(path).result(timeout=60).facts.width == 32


# Failures


def test_reasons_and_kinds_of_failure_come_through(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_bytes(b"only text in here, nothing else")
    whole = Path(os.fsdecode(picture(tmp_path))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "folder.png").mkdir()
    with pool() as decoders:
        text, cut, gone, folder = (
            decoders.decode(os.fsencode(tmp_path / name)).exception(timeout=60)
            for name in ("text.jpg", "cut.png", "gone.png", "folder.png")
        )
    assert isinstance(text, NotAPictureError)
    assert str(text) == "not a picture"
    assert isinstance(cut, UnreadablePictureError)
    assert not isinstance(cut, NotAPictureError | TryAgainError)
    assert str(cut) == "truncated PNG"
    assert isinstance(gone, FileNotFoundError)
    assert isinstance(folder, NotAPictureError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(60)
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pool() as decoders:
        future = decoders.decode(os.fsencode(tmp_path / "a.jpg"))
        assert failure(future) == "not a regular file"
        hashing = decoders.hash(os.fsencode(tmp_path / "a.jpg")).exception(timeout=60)
        assert isinstance(hashing, NotAPictureError)


@POSIX_ONLY
def test_killed_worker_fails_its_own_picture_only(tmp_path: Path) -> None:
    good = picture(tmp_path)
    deadly = picture(tmp_path, "deadly.png", width=preparers.KILLS_ITSELF)
    with pool(preparers.misbehave, workers=2) as decoders:
        futures = [decoders.decode(p) for p in (good, deadly, good, good, deadly, good)]
        wait(futures)
        assert failure(futures[1]) == failure(futures[4]) == "the decoder crashed (SIGKILL)"
        assert all(futures[i].result().facts.width == 32 for i in (0, 2, 3, 5))


def test_bug_in_the_worker_is_named(tmp_path: Path) -> None:
    path = picture(tmp_path, width=preparers.HAS_A_BUG)
    with pool(preparers.misbehave) as decoders:
        reason = failure(decoders.decode(path))
        assert reason == "the decoder crashed (NameError: no such thing)"
        assert decoders.decode(picture(tmp_path)).result(timeout=60)


def test_picture_that_cannot_be_prepared_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    path = picture(tmp_path, width=preparers.REFUSED)
    with pool(preparers.misbehave) as decoders:
        assert failure(decoders.decode(path)) == "cannot be resized: ValueError: too thin"


def test_slow_picture_is_given_up_after_the_limit(tmp_path: Path) -> None:
    slow = picture(tmp_path, "slow.png", width=preparers.SLEEPS)
    limits = DecodeLimits(max_seconds=1.5)
    with pool(preparers.misbehave, limits=limits) as decoders:
        decoders.decode(picture(tmp_path)).result(timeout=60)
        started = time.monotonic()
        futures = [decoders.decode(slow), decoders.decode(picture(tmp_path))]
        assert failure(futures[0]) == "took longer than 1.5 s"
        assert time.monotonic() - started < 5
        assert futures[1].result(timeout=60).facts.width == 32


@LINUX_ONLY
def test_hungry_picture_is_stopped_at_the_limit_of_memory(tmp_path: Path) -> None:
    hungry = picture(tmp_path, "hungry.png", width=preparers.EATS_MEMORY)
    with pool(preparers.misbehave) as decoders:
        futures = [decoders.decode(hungry), decoders.decode(picture(tmp_path))]
        assert failure(futures[0]) == "needs more than 0.25 GiB of memory"
        assert futures[1].result(timeout=60).facts.width == 32


@LINUX_ONLY
def test_large_picture_needs_more_memory_than_allowed(tmp_path: Path) -> None:
    quarters(8000, 8000).save(tmp_path / "a.png", compress_level=1)
    limits = DecodeLimits(max_seconds=30, max_memory_bytes=64 * 1024**2)
    with pool(preparers.nothing, limits=limits) as decoders:
        future = decoders.decode(os.fsencode(tmp_path / "a.png"))
        assert failure(future) == "needs more than 0.0625 GiB of memory"


@POSIX_ONLY
def test_worker_that_dies_while_it_waits_costs_no_picture(tmp_path: Path) -> None:
    with pool() as decoders:
        decoders.decode(picture(tmp_path)).result(timeout=60)
        for _ in range(3):
            (process_id,) = worker_ids(decoders)
            os.kill(process_id, signal.SIGKILL)
            assert decoders.decode(picture(tmp_path)).result(timeout=60)
            assert worker_ids(decoders) != [process_id]


def test_file_that_changes_while_it_is_read_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path)
    hash_file = decode_worker.content_hash

    def hash_and_append(file: Any) -> bytes:
        digest = hash_file(file)
        with open(path, "ab") as writer:
            writer.write(b"more")
        return digest

    monkeypatch.setattr(decode_worker, "content_hash", hash_and_append)
    with pytest.raises(ChangedWhileReadError):
        decode_worker._decode(path, (), preparers.to_array, LIMITS, None)
    with pytest.raises(ChangedWhileReadError):
        decode_worker._hash(path, LIMITS)
    assert issubclass(ChangedWhileReadError, TryAgainError)


def test_truncated_file_that_grows_meanwhile_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(os.fsdecode(picture(tmp_path)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    hash_file = decode_worker.content_hash

    def hash_and_finish(file: Any) -> bytes:
        digest = hash_file(file)
        path.write_bytes(whole[:-20])
        return digest

    monkeypatch.setattr(decode_worker, "content_hash", hash_and_finish)
    with pytest.raises(ChangedWhileReadError):
        decode_worker._decode(os.fsencode(path), (), preparers.to_array, LIMITS, None)


def test_workers_that_never_start_are_an_error_not_a_loop(tmp_path: Path) -> None:
    with pool(preparers.EndsTheProcessOnArrival(), workers=2) as decoders:
        futures = [decoders.decode(picture(tmp_path)) for _ in range(5)]
        for future in futures:
            with pytest.raises(WorkerError, match=r"cannot be started.*exit status 7") as caught:
                future.result(timeout=60)
            assert caught.value.hint


def test_interpreter_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "get_executable", lambda: str(tmp_path / "python"))
    with pool() as decoders, pytest.raises(WorkerError, match="cannot be started"):
        decoders.decode(picture(tmp_path)).result(timeout=60)


# Beginning and end


def test_nothing_is_started_before_it_is_needed(tmp_path: Path) -> None:
    with pool(workers=8) as decoders:
        assert worker_ids(decoders) == []
        decoders.decode(picture(tmp_path)).result(timeout=60)
        decoders.decode(picture(tmp_path)).result(timeout=60)
        assert len(worker_ids(decoders)) == 1


def test_closing_waits_for_the_work_and_ends_the_workers(tmp_path: Path) -> None:
    decoders = pool(workers=2)
    futures = [decoders.decode(picture(tmp_path)) for _ in range(20)]
    while not worker_ids(decoders):
        time.sleep(0.01)
    process_ids = worker_ids(decoders)
    decoders.close()
    decoders.close()
    assert all(future.done() and not future.exception() for future in futures)
    if sys.platform == "linux":
        assert not any(is_running(process_id) for process_id in process_ids)
    with pytest.raises(RuntimeError, match="closed"):
        decoders.decode(b"a")


def test_cancelling_ends_a_hanging_worker_at_once(tmp_path: Path) -> None:
    decoders = pool(preparers.misbehave, workers=2)
    decoders.decode(picture(tmp_path)).result(timeout=60)
    slow = picture(tmp_path, "slow.png", width=preparers.SLEEPS)
    futures = [decoders.decode(slow) for _ in range(10)]
    time.sleep(0.5)
    started = time.monotonic()
    decoders.close(cancel=True)
    assert time.monotonic() - started < 0.5
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=0)


def test_cancelling_while_workers_start_is_as_fast(tmp_path: Path) -> None:
    decoders = pool(workers=2)
    futures = [decoders.decode(picture(tmp_path)) for _ in range(10)]
    started = time.monotonic()
    decoders.close(cancel=True)
    assert time.monotonic() - started < 0.5
    assert all(future.done() for future in futures)


def test_leaving_with_an_exception_does_not_wait(tmp_path: Path) -> None:
    slow = picture(tmp_path, width=preparers.SLEEPS)
    started = time.monotonic()
    with contextlib.suppress(KeyError), pool(preparers.misbehave) as decoders:
        decoders.decode(slow)
        raise KeyError
    assert time.monotonic() - started < 5


def test_waiting_jobs_can_be_cancelled_one_by_one(tmp_path: Path) -> None:
    with pool() as decoders:
        futures = [decoders.decode(picture(tmp_path)) for _ in range(5)]
        assert futures[4].cancel()
        assert futures[3].result(timeout=60)
        assert futures[4].cancelled()


PARENT = """
import sys, time
from photos import photo_preparers as preparers
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool

pool = DecodePool(preparers.misbehave, workers=2, limits=DecodeLimits(), min_side=None)
good, slow = (argument.encode() for argument in sys.argv[1:])
pool.decode(good).result()
for _ in range(4):
    pool.decode(slow)
while len(pool._workers) < 2:
    time.sleep(0.01)
time.sleep(0.3)
print(*(worker._process.pid for worker in pool._workers), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_parent_leaves_no_orphans(tmp_path: Path) -> None:
    good = picture(tmp_path)
    slow = picture(tmp_path, "slow.png", width=preparers.SLEEPS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, good, slow], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        process_ids = [int(text) for text in parent.stdout.readline().split()]
        assert len(process_ids) == 2
        assert all(is_running(process_id) for process_id in process_ids)
        parent.kill()
    deadline = time.monotonic() + 5
    while any(is_running(process_id) for process_id in process_ids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)


@POSIX_ONLY
def test_ctrl_c_does_not_reach_the_workers(tmp_path: Path) -> None:
    with pool(preparers.process_id) as decoders:
        decoders.decode(picture(tmp_path)).result(timeout=60)
        (process_id,) = worker_ids(decoders)
        assert os.getpgid(process_id) != os.getpgid(0)
        os.kill(process_id, signal.SIGINT)
        time.sleep(0.1)
        again = decoders.decode(picture(tmp_path)).result(timeout=60)
        assert again.pixels.tolist() == [process_id]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such a score")
def test_the_kernel_takes_a_worker_for_memory_before_its_parent(tmp_path: Path) -> None:
    before = int(Path("/proc/self/oom_score_adj").read_text())
    with pool(preparers.process_id) as decoders:
        decoders.decode(picture(tmp_path)).result(timeout=60)
        (process_id,) = worker_ids(decoders)
        score = int(Path(f"/proc/{process_id}/oom_score_adj").read_text())
    assert score == min(1000, before + 500)


def test_workers_import_no_inference_engine(tmp_path: Path) -> None:
    with pool(preparers.loaded_modules) as decoders:
        loaded = set(decoders.decode(picture(tmp_path)).result(timeout=60).pixels.tolist())
    assert "PIL.Image" in loaded
    assert not loaded & {"onnxruntime", "faiss", "torch", "sqlite3", "click", "pillow_heif"}


def test_what_libraries_print_reaches_neither_the_pipe_nor_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pool(preparers.noisy) as decoders:
        for _ in range(3):
            assert decoders.decode(picture(tmp_path)).result(timeout=60).facts.width == 32
    assert capfd.readouterr() == ("", "")


def test_pool_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pool(workers=0)
