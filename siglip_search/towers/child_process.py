"""One task in a process of its own: native code that may crash, hang or keep a state for ever.

The child says on stdout how far it got and what came of it, one JSON object a line. The parent
turns that, a crash and a child that never answers into one result or one error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.spawn import get_executable
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DeviceError, ModelError, SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GRACE_SECONDS: Final = 5.0
_MOST_SHOWN: Final = 200
_LIMIT_VARIABLE: Final = "SIGLIP_SEARCH_CHILD_SECONDS"


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended, and what it had said.

    Attributes:
        last: The last object that it said, empty if none.
        status: Its exit status, below 0 for a signal; None if it was killed because it took too
            long.
        complained: Last line of its stderr.
    """

    last: dict[str, Any]
    status: int | None
    complained: str

    @property
    def ending(self) -> str:
        """A few words for the status, such as "SIGSEGV" or "exit status 1: MemoryError"."""
        if self.status is None:
            return "killed"
        if self.status < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-self.status).name
            return f"signal {-self.status}"
        code = str(self.status) if self.status < 256 else f"0x{self.status:X}"
        return f"exit status {code}" + (f": {self.complained}" if self.complained else "")


def run_child(module: str, arguments: Sequence[str], *, timeout_seconds: float) -> ChildEnd:
    """Run a module's `main` in a process of its own until it ends.

    Args:
        module: Full name of a module that calls `answer_parent` when it is run.
        arguments: Its command line.
        timeout_seconds: After it the child is killed.
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
    status: int | None = None
    try:
        said, complained = child.communicate(timeout=timeout_seconds)
        status = child.returncode
    except subprocess.TimeoutExpired:
        said, complained = _killed(child)
    except BaseException:
        _killed(child)
        raise
    return ChildEnd(_last_object(said), status, _last_line(complained))


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
    child = run_child(module, arguments, timeout_seconds=timeout_seconds)
    if child.status is None:
        raise ModelError(f"{what}: no answer in {timeout_seconds:g} s", hint=hint)
    if child.status != 0 or "answer" not in child.last:
        raise ModelError(f"{what}: its process crashed ({child.ending})", hint=hint)
    answer: dict[str, Any] = child.last["answer"]
    if "error" in answer:
        kind = DeviceError if answer["kind"] == DeviceError.__name__ else ModelError
        raise kind(answer["error"], hint=answer["hint"])
    return answer


def answer_parent(
    work: Callable[[], dict[str, Any]], *, limit_seconds: float | None = None
) -> None:
    """Be the child: do the work and say what it returned, or the error that it raised.

    Args:
        work: The task. What it says with `say_to_parent` meanwhile, the parent knows even if it
            crashes.
        limit_seconds: When to end by itself if no parent says it, that is, when somebody runs the
            module by hand; None for never.
    """
    # Native code that hangs must not outlive a parent that was killed before it could kill us.
    limit = os.environ.get(_LIMIT_VARIABLE, limit_seconds)
    if limit is not None:
        faulthandler.dump_traceback_later(float(limit), exit=True)
    try:
        answer = work()
    except SiglipSearchError as error:
        answer = {"error": str(error), "hint": error.hint, "kind": type(error).__name__}
    say_to_parent(answer=answer)


def say_to_parent(**what: object) -> None:
    """Be the child: say one object, at once."""
    # By the descriptor: nothing of it may stay in a buffer if a library crashes. On a line of its
    # own, even if a library has begun one.
    os.write(1, b"\n" + json.dumps(what).encode() + b"\n")


def _killed(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill the child and return what it had said, but do not wait for one that cannot die."""
    child.kill()
    try:
        return child.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired as late:
        return late.stdout or b"", late.stderr or b""


def _last_object(said: bytes) -> dict[str, Any]:
    """Return the last object among the lines; libraries may have said other things."""
    for line in reversed(said.split(b"\n")[:-1]):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {}


def _last_line(complained: bytes) -> str:
    lines = complained.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_MOST_SHOWN]
