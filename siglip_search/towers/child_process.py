"""One task in a process of its own: native code that may crash, hang or keep a state for ever.

The child says its answer on stdout as one JSON object. The parent turns that, a crash and a child
that never answers into one result or one error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
from multiprocessing.spawn import get_executable
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DeviceError, ModelError, SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GRACE_SECONDS: Final = 5.0
_MOST_SHOWN: Final = 200
_LIMIT_VARIABLE: Final = "SIGLIP_SEARCH_CHILD_SECONDS"


def ask_child(
    module: str, arguments: Sequence[str], *, what: str, hint: str, timeout_seconds: float
) -> dict[str, Any]:
    """Run a module's `main` in a process of its own and return what it answered.

    Args:
        module: Full name of a module that calls `answer_parent` when it is run.
        arguments: Its command line.
        what: Begins the error's message if the child crashes or hangs: what did not succeed.
        hint: The error's hint then.
        timeout_seconds: After it the child is killed.

    Raises:
        ModelError: If the child raised one, crashed or did not answer in time.
        DeviceError: If the child raised one.
    """
    # The child finds this package where this process did, and nothing in the current folder.
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    child = subprocess.Popen(  # noqa: S603 - a module of ours
        [get_executable(), "-P", "-m", module, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": search_path,
            _LIMIT_VARIABLE: str(timeout_seconds + _GRACE_SECONDS),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        said, complained = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as late:
        _kill(child)
        raise ModelError(f"{what}: no answer in {timeout_seconds:g} s", hint=hint) from late
    except BaseException:
        _kill(child)
        raise
    answer = _last_object(said)
    if child.returncode != 0 or answer is None:
        ending = _ending(child.returncode, complained)
        raise ModelError(f"{what}: its process crashed ({ending})", hint=hint)
    if "error" in answer:
        kind = DeviceError if answer["kind"] == DeviceError.__name__ else ModelError
        raise kind(answer["error"], hint=answer["hint"])
    return answer


def answer_parent(work: Callable[[], dict[str, Any]]) -> None:
    """Be the child: do the work and say what it returned, or the error that it raised."""
    # Native code that hangs must not outlive a parent that was killed before it could kill us.
    faulthandler.dump_traceback_later(float(os.environ[_LIMIT_VARIABLE]), exit=True)
    try:
        answer = work()
    except SiglipSearchError as error:
        answer = {"error": str(error), "hint": error.hint, "kind": type(error).__name__}
    # By the descriptor: nothing of it may stay in a buffer if a library crashes at the end.
    os.write(1, b"\n" + json.dumps(answer).encode() + b"\n")


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child, but do not wait for one that cannot die."""
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.communicate(timeout=_GRACE_SECONDS)


def _last_object(said: bytes) -> dict[str, Any] | None:
    """Return the last object among the lines; libraries may have said other things."""
    for line in reversed(said.split(b"\n")[:-1]):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


def _ending(status: int, complained: bytes) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"
    ending = f"exit status {status}" if status < 256 else f"exit status 0x{status:X}"
    lines = complained.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{ending}: {last[:_MOST_SHOWN]}" if last else ending
