"""The one place from which the system's own programs (systemctl, launchctl, schtasks) are run."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_FOUND: Final = 127
"""Status for a program that is not there, as shells have it."""

_LIMIT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program did.

    Attributes:
        status: Its exit status; `NOT_FOUND` when there is no such program.
        output: What it wrote to stdout.
        complaint: The first line of what it wrote to stderr, else of stdout; may be empty.
    """

    status: int
    output: str
    complaint: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command to be run, and whether its failure matters.

    Attributes:
        words: The program and its arguments.
        may_fail: It undoes what may not be there.
    """

    words: tuple[str, ...]
    may_fail: bool = False

    def __str__(self) -> str:
        """Return it as it is typed."""
        return subprocess.list2cmdline(self.words) if os.name == "nt" else shlex.join(self.words)


def run_program(words: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run a program to its end and return what it did.

    Args:
        words: The program, looked for on the PATH, and its arguments.
        environment: Variables that differ from this process's own.

    Raises:
        ServiceError: It did not end in two minutes.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the programs that the supervisors name
            list(words),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        return Outcome(NOT_FOUND, "", f"{words[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        raise ServiceError(
            f"`{Step(tuple(words))}` did not end in {_LIMIT_SECONDS:.0f} s",
            hint="Run it yourself to see what it waits for.",
        ) from None
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return Outcome(done.returncode, done.stdout, said[0] if said else "")


def run_steps(steps: Sequence[Step]) -> None:
    """Run commands one after the other.

    Raises:
        ServiceError: One failed that must not; those after it are not run.
    """
    for step in steps:
        outcome = run_program(step.words)
        if outcome.status != 0 and not step.may_fail:
            raise ServiceError(
                f"`{step}` failed: {outcome.complaint or f'exit status {outcome.status}'}",
                hint="Run it yourself to see more; `siglip-search watch` works without it.",
            )
