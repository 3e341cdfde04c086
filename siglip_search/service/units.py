"""What the service of a library is, whichever system starts it; and the seal on files we write."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from siglip_search.errors import ServiceError
from siglip_search.service.programs import Step
from siglip_search.settings import data_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


BASE_NAME: Final = "siglip-search"
DESCRIPTION: Final = "siglip-search: follow picture folders"

# They decide where library, models and settings are. A service does not see the shell's variables.
_CARRIED: Final = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "SIGLIP_SEARCH_MODEL")

_PLACEHOLDER: Final = "0" * 16
_SEAL: Final = re.compile(r"written by siglip-search, checksum ([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Unit:
    """One library's service.

    Attributes:
        name: Name without an ending; "siglip-search" for the default library, for any other with a
            hash of its place behind it.
        library: Absolute path of the library's folder.
        command: The program's absolute path and its arguments.
        environment: Variables that the service is given.
    """

    name: str
    library: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnitState:
    """What the service manager says of a service.

    Attributes:
        installed: The service manager knows it.
        enabled: It starts by itself; None if unknown.
        running: Its process is there.
        pid: The process, None if unknown or not running.
        since: When the process started, in seconds since the epoch; None if unknown.
        exit_status: How the last process ended: its status, or a signal's number below 0; None if
            none has ended or it is unknown.
        detail: The manager's own words, one line; may be empty.
    """

    installed: bool
    enabled: bool | None = None
    running: bool = False
    pid: int | None = None
    since: float | None = None
    exit_status: int | None = None
    detail: str = ""


class Supervisor(Protocol):
    """What starts programs in the background on one kind of system."""

    title: str
    asks_to_end: bool
    """Whether its stopping lets the daemon commit what it has computed."""

    def check(self) -> None:
        """Raise ServiceError where this user's service manager cannot be reached."""

    def file(self, unit: Unit) -> Path:
        """Return the path of the file that defines the service."""

    def definition(self, unit: Unit) -> bytes:
        """Return the content of that file, sealed."""

    def folders(self, unit: Unit) -> tuple[Path, ...]:
        """Return further folders that have to be there before it starts."""

    def install_steps(self, unit: Unit, *, changed: bool) -> tuple[Step, ...]:
        """Return what to run once the file is written; `changed`: it is new, or not as it was."""

    def steps_before_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what to run before the file is removed."""

    def steps_after_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what to run after it."""

    def start_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what starts it now."""

    def stop_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what stops it now."""

    def state(self, unit: Unit) -> UnitState:
        """Ask how it is."""

    def log_command(self, unit: Unit, *, lines: int, follow: bool) -> tuple[str, ...] | None:
        """Return the command that shows its log; None: it is the daemon's own file."""

    def advice(self, unit: Unit) -> tuple[str, ...]:
        """Return what a user should know after installing, in lines."""


def unit_of(library: Path) -> Unit:
    """Return the service of the library in this folder, which need not exist.

    Raises:
        ServiceError: This Python does not know its own path.
    """
    if not sys.executable:
        raise ServiceError(
            "this Python does not know where it is",
            hint="Call siglip-search by its whole path.",
        )
    place = os.path.realpath(library)
    is_default = place == os.path.realpath(data_directory() / "library")
    # Six bytes: two of one user's few libraries are not going to share them.
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
    return Unit(
        name=BASE_NAME if is_default else f"{BASE_NAME}-{digest}",
        library=library,
        # -P: with -m alone, a module in the working directory (the home) would come first.
        # --library even for the default one: a setting that names another one later must not make
        # this service follow it.
        command=(
            *(sys.executable, "-P", "-m", "siglip_search", "watch"),
            *("--library", str(library)),
        ),
        environment={name: os.environ[name] for name in _CARRIED if os.environ.get(name)},
    )


def library_words(unit: Unit) -> str:
    """Return what has to be typed after a command for this library, with a space before it."""
    return "" if unit.name == BASE_NAME else f" --library {Step((str(unit.library),))}"


def seal_line() -> str:
    """Return the words that mark a file as ours; `sealed` puts the checksum into them."""
    return f"written by siglip-search, checksum {_PLACEHOLDER}"


def sealed(text: str) -> str:
    """Return a file's text, in which `seal_line` stands, with its checksum."""
    return _SEAL.sub(lambda found: found[0].replace(_PLACEHOLDER, _checksum(text)), text, count=1)


def is_ours(content: bytes) -> bool:
    """Return whether a file was written by us, whatever became of it since."""
    return _SEAL.search(_decoded(content)) is not None


def is_as_written(content: bytes) -> bool:
    """Return whether a file was written by us and nobody changed it since."""
    text = _decoded(content)
    found = _SEAL.search(text)
    if found is None:
        return False
    return found[1] == _checksum(text[: found.start(1)] + _PLACEHOLDER + text[found.end(1) :])


def _checksum(text: str) -> str:
    # Line ends are no change: editors and version control turn them over.
    return hashlib.sha256("\n".join(text.splitlines()).encode("utf-8", "replace")).hexdigest()[:16]


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    return content.decode(encoding, "replace")
