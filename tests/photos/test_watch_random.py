"""Whatever happens to a folder, a look taken after it covers each file that is not as it was."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.photos.followed import Followed, changed_between, covers, state_of

_FOLDERS = [b"", b"/a", b"/a/b", b"/a/b/c", b"/d", b"/d/b", b"/\xff", b"/a.jpg"]
_FILES = [folder + b"/" + name for folder in _FOLDERS for name in (b"a.jpg", b"\xe9.jpg")]

folders = st.sampled_from(_FOLDERS[1:])
files = st.sampled_from(_FILES)

Operation = Callable[[bytes, bytes], None]
"""Does something to a followed folder, perhaps with a folder that is not followed."""


def _write(path: bytes, mode: str = "wb") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, mode) as file:
        file.write(b"x")


def _fill(path: bytes) -> None:
    for number in range(12):
        _write(path + b"/%d/%d.jpg" % (number % 4, number))


def _delete(path: bytes) -> None:
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _replace(path: bytes) -> None:
    _write(path + b".tmp")
    os.replace(path + b".tmp", path)


def _copy_with_its_time(source: bytes, target: bytes) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(source, target)


def _rename(source: bytes, target: bytes) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)


def _link(source: bytes, target: bytes) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.link(source, target)


anywhere = files | folders
operations: st.SearchStrategy[tuple[str, Operation]] = st.one_of(
    st.builds(lambda a: (f"write {a!r}", lambda root, _: _write(root + a)), files),
    st.builds(lambda a: (f"append {a!r}", lambda root, _: _write(root + a, "ab")), files),
    st.builds(lambda a: (f"replace {a!r}", lambda root, _: _replace(root + a)), files),
    st.builds(lambda a: (f"fill {a!r}", lambda root, _: _fill(root + a)), folders),
    st.builds(lambda a: (f"delete {a!r}", lambda root, _: _delete(root + a)), anywhere),
    st.builds(lambda a: (f"old time {a!r}", lambda root, _: os.utime(root + a, (1, 1))), files),
    *(
        st.builds(
            lambda a, b, act=act: (f"{act.__name__} {a!r} {b!r}", lambda r, _: act(r + a, r + b)),
            first,
            second,
        )
        for act, first, second in (
            (_rename, anywhere, anywhere),
            (_rename, folders, folders),
            (_link, files, files),
            (_copy_with_its_time, files, files),
        )
    ),
    st.builds(
        lambda a, b: (f"move out {a!r} as {b}", lambda r, out: _rename(r + a, out + b"/%d" % b)),
        folders,
        st.integers(0, 1),
    ),
    st.builds(
        lambda a, b: (f"move in {b} as {a!r}", lambda r, out: _rename(out + b"/%d" % b, r + a)),
        folders,
        st.integers(0, 1),
    ),
    st.builds(lambda b: (f"delete {b} outside", lambda _, o: _delete(o + b"/%d" % b)), st.just(0)),
)
# What a person or a program leaves between two operations; watchdog waits 0.5 s for the other
# half of a rename.
pauses = st.sampled_from([0.0, 0.0, 0.0, 0.002, 0.05, 0.6])


def _check_that_nothing_is_overlooked(steps: list[tuple[tuple[str, Operation], float]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, outside = Path(name, "followed"), Path(name, "outside")
        for path in (folder, outside):
            path.mkdir()
        for path in _FILES[:6]:
            _write(os.fsencode(folder) + path)
        followed = Followed(folder, settle_seconds=0.05)
        try:
            changed_at: dict[bytes, float] = {}
            before = state_of(followed.path)
            for (_, act), pause in steps:
                # Often there is nothing to do it to, or something in the way.
                with contextlib.suppress(OSError):
                    act(followed.path, os.fsencode(outside))
                after = state_of(followed.path)
                now = time.monotonic()
                changed_at |= dict.fromkeys(changed_between(before, after), now)
                before = after
                if pause:
                    end = now + pause
                    followed.until(lambda end=end: time.monotonic() >= end)
            followed.until_quiet()
            overlooked = [
                path
                for path, changed in changed_at.items()
                if not any(at >= changed and covers(look, path) for at, look in followed.looks)
            ]
            assert overlooked == []
            assert followed.how == "events"
        finally:
            followed.close()


def _of_steps(max_size: int) -> st.SearchStrategy[list[tuple[tuple[str, Operation], float]]]:
    return st.lists(st.tuples(operations, pauses), min_size=max_size // 2, max_size=max_size)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_of_steps(30))
def test_nothing_is_overlooked(steps: list[tuple[tuple[str, Operation], float]]) -> None:
    _check_that_nothing_is_overlooked(steps)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_of_steps(25))
def test_nothing_is_overlooked_in_many_cases(
    steps: list[tuple[tuple[str, Operation], float]],
) -> None:
    _check_that_nothing_is_overlooked(steps)
