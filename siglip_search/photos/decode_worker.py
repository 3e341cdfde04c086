"""The process that decodes pictures, one at a time, for `decode_pool`.

It reads jobs from its standard input and answers on its standard output, in frames. The first
frame is the set-up, the only one with a pickle in it.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from siglip_index.records import PhotoFacts
from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.fingerprint import (
    ChangedWhileReadError,
    OnlineOnlyError,
    TryAgainError,
    content_hash,
    fingerprint,
    open_regular,
    refused_read,
)
from siglip_search.photos.frames import read_header, read_raw, write_frame
from siglip_search.photos.metadata_again import facts_of_file, read_facts_again
from siglip_search.photos.reasons import needs_more_memory
from siglip_search.photos.sidecar import read_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL import Image

# How much more than the parent's limit the worker gives itself, in case nobody is left to end it.
_OWN_TIME_LIMIT_MARGIN_SECONDS = 5.0

# In thousandths of the memory that may be used: half of it, far above what a tower weighs.
_SOONER_WHEN_OUT_OF_MEMORY = 500


def main() -> None:
    """Serve jobs until the parent closes the pipe, or is gone."""
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _go_first_when_memory_runs_out()
    jobs_in, answers = _take_over_standard_streams()
    sys.excepthook = _report_crash_to(answers)

    setup = read_header(jobs_in)
    pickled = bytearray(setup["raw_bytes"])
    read_raw(jobs_in, memoryview(pickled))
    # From our own parent, through a pipe that only it holds.
    prepare, limits, min_side = pickle.loads(pickled)  # noqa: S301
    jobs = _read_jobs_in_background(jobs_in)
    shared_bytes = limits.shared_memory_bytes or limits.max_memory_bytes
    own_bytes = _address_space()
    _limit_memory(own_bytes, shared_bytes)
    write_frame(answers, {"kind": "ready"})

    while True:
        job = jobs.get()
        # From here on, dying is this file's fault.
        write_frame(answers, {"kind": "taken"})
        _limit_processor_time(limits.max_seconds + _OWN_TIME_LIMIT_MARGIN_SECONDS)
        if job["is_alone"]:
            _limit_memory(own_bytes, limits.max_memory_bytes)
        header, pixels = _do(job, prepare, limits, min_side)
        if job["is_alone"]:
            _limit_memory(own_bytes, shared_bytes)
        _limit_processor_time(0)
        write_frame(answers, header, None if pixels is None else pixels.data)


def _go_first_when_memory_runs_out() -> None:
    """Let Linux's out-of-memory killer take this process before its parent: it is replaced."""
    with suppress(OSError, ValueError):  # another system, or no right to
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            now = int(file.read())
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(min(1000, now + _SOONER_WHEN_OUT_OF_MEMORY)))


def _take_over_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to the parent; give everybody else in this process the null device.

    libtiff and others print warnings, which must reach neither the user's screen nor our pipe.
    """
    jobs_in = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    return jobs_in, answers


def _report_crash_to(
    answers: BinaryIO,
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def report(
        kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
    ) -> None:
        write_frame(answers, {"kind": "crash", "reason": f"{kind.__name__}: {error}"})

    return report


def _read_jobs_in_background(jobs_in: BinaryIO) -> queue.SimpleQueue[dict[str, Any]]:
    """Queue the jobs, and end this process as soon as its parent is gone, busy or not."""
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        while True:
            try:
                jobs.put(read_header(jobs_in))
            except EOFError:
                os._exit(0)

    threading.Thread(target=read, name="jobs", daemon=True).start()
    return jobs


def _address_space() -> int | None:
    """Return its size in bytes, or None on a system whose kernel does not limit it."""
    try:
        import resource

        # The first number is the size in pages.
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # Windows, macOS
        return None


def _limit_memory(own_bytes: int | None, picture_bytes: int) -> None:
    if own_bytes is None:
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = own_bytes + picture_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # A crash in a decoder must not fill the disk with an image of its memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor_time(seconds: float) -> None:
    """Have the kernel end this process after so many seconds on every core; 0 takes that back.

    The parent kills it earlier. This is for a parent that died while a decoder hung without
    letting any other thread of this process run. Such a decoder computes; time that passes while
    this process is stopped, as by SIGSTOP, or waits for a drive does not count.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds * (os.cpu_count() or 1))


def _do(
    job: dict[str, Any],
    prepare: Callable[[Image.Image], NDArray[Any]],
    limits: DecodeLimits,
    min_side: int | None,
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    try:
        path = os.fsencode(job["path"])
        if job["kind"] == "hash":
            return _hash(path, limits), None
        sidecars = [os.fsencode(sidecar) for sidecar in job["sidecars"]]
        if job["kind"] == "facts":
            return _read_facts(path, PhotoFacts(**job["facts"]), sidecars, limits), None
        return _decode(path, sidecars, prepare, limits, min_side)
    except FileNotFoundError:
        return {"kind": "vanished"}, None
    except ChangedWhileReadError:
        return {"kind": "changed"}, None
    except OnlineOnlyError:
        return {"kind": "online_only"}, None
    except TryAgainError as error:
        return {"kind": "refused", "reason": str(error)}, None
    except NotAPictureError as error:
        return {"kind": "not_a_picture", "reason": str(error)}, None
    except UnreadablePictureError as error:
        short = str(error) == needs_more_memory(limits.max_memory_bytes)
        return {"kind": "needs_memory" if short else "unreadable", "reason": str(error)}, None
    except MemoryError:
        return {"kind": "needs_memory", "reason": needs_more_memory(limits.max_memory_bytes)}, None
    except OSError as error:
        return {"kind": "refused", "reason": str(refused_read(error))}, None


def _hash(path: bytes, limits: DecodeLimits) -> dict[str, Any]:
    with open_regular(path, download_cloud=limits.download_cloud) as file:
        before = fingerprint(os.fstat(file.fileno()))
        digest = content_hash(file)
        if fingerprint(os.fstat(file.fileno())) != before:
            raise ChangedWhileReadError
    return {"kind": "hashed", "hash": digest.hex(), "fingerprint": asdict(before)}


def _read_facts(
    path: bytes, known: PhotoFacts, sidecars: Iterable[bytes], limits: DecodeLimits
) -> dict[str, Any]:
    with open_regular(path, download_cloud=limits.download_cloud) as file:
        before = fingerprint(os.fstat(file.fileno()))
        facts = _with_all_sidecars(read_facts_again(file, known, limits), path, sidecars, limits)
        if fingerprint(os.fstat(file.fileno())) != before:
            raise ChangedWhileReadError
    return {"kind": "facts", "facts": asdict(facts), "fingerprint": asdict(before)}


def _with_all_sidecars(
    facts: PhotoFacts, path: bytes, sidecars: Iterable[bytes], limits: DecodeLimits
) -> PhotoFacts:
    found = [read_sidecar(path, download_cloud=limits.download_cloud) for path in sidecars]
    return facts_of_file(facts, path, filter(None, found))


def _with_sidecars_of_now(
    facts: PhotoFacts, path: bytes, sidecars: Iterable[bytes], limits: DecodeLimits
) -> PhotoFacts:
    """Return a picture's facts, to be read again where a sidecar cannot be read now."""
    found = []
    for sidecar in sidecars:
        try:
            found.append(read_sidecar(sidecar, download_cloud=limits.download_cloud))
        except TryAgainError:
            facts = replace(facts, metadata_version=0)
    return facts_of_file(facts, path, filter(None, found))


def _decode(
    path: bytes,
    sidecars: Iterable[bytes],
    prepare: Callable[[Image.Image], NDArray[Any]],
    limits: DecodeLimits,
    min_side: int | None,
) -> tuple[dict[str, Any], NDArray[Any]]:
    with open_regular(path, download_cloud=limits.download_cloud) as file:
        before = fingerprint(os.fstat(file.fileno()))
        try:
            digest = content_hash(file)
            picture = decode(file, limits=limits, min_side=min_side, name=path)
        except UnreadablePictureError:
            # A file that is still being written looks truncated.
            if fingerprint(os.fstat(file.fileno())) != before:
                raise ChangedWhileReadError from None
            raise
        if fingerprint(os.fstat(file.fileno())) != before:
            raise ChangedWhileReadError
    try:
        pixels = np.ascontiguousarray(prepare(picture.image))
    except MemoryError:
        raise
    except BAD_DATA_ERRORS as error:
        raise UnreadablePictureError(
            f"cannot be resized: {type(error).__name__}: {error}"[:120]
        ) from None
    return {
        "kind": "decoded",
        "hash": digest.hex(),
        "fingerprint": asdict(before),
        "facts": asdict(_with_sidecars_of_now(picture.facts, path, sidecars, limits)),
        "dtype": pixels.dtype.str,
        "shape": pixels.shape,
    }, pixels
