"""Installing, removing and asking after a library's service, whatever the system."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from siglip_search.errors import ServiceError
from siglip_search.service.launchd import Launchd
from siglip_search.service.programs import Step, run_steps
from siglip_search.service.systemd import Systemd
from siglip_search.service.units import Unit, is_as_written, is_ours, library_words
from siglip_search.service.windows_task import TaskScheduler

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.service.units import Supervisor

Change = Literal["written", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class Installation:
    """What installing does, or would do.

    Attributes:
        file: Path of the definition.
        content: What is to stand in it.
        change: "written": it was not there; "updated": an older one of ours was; "unchanged": it
            is there as it should be.
        steps: The commands that follow.
        folders: Folders that are made first.
    """

    file: Path
    content: bytes
    change: Change
    steps: tuple[Step, ...]
    folders: tuple[Path, ...]

    @property
    def text(self) -> str:
        """The content as people read it."""
        encoding = "utf-16" if self.content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
        return self.content.decode(encoding).replace("\r\n", "\n")


@dataclass(frozen=True, slots=True)
class Removal:
    """What uninstalling does, or would do.

    Attributes:
        file: Path of the definition; None if there is none.
        before: The commands before it is removed.
        after: The commands after it.
        kept: The user's own additions beside it, which stay.
    """

    file: Path | None
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    kept: tuple[Path, ...]


def supervisor_here() -> Supervisor:
    """Return what starts programs in the background on this system.

    Raises:
        ServiceError: Nothing that we know.
    """
    if sys.platform == "linux":
        return Systemd()
    if sys.platform == "darwin":
        return Launchd()
    if sys.platform == "win32":
        return TaskScheduler()
    raise ServiceError(
        f"no service manager of {sys.platform} is known here",
        hint="`siglip-search watch` does the same in the foreground.",
    )


def plan_installation(supervisor: Supervisor, unit: Unit, *, force: bool = False) -> Installation:
    """Return what installing would do; nothing is touched.

    Args:
        supervisor: Where to.
        unit: What.
        force: Replace also what was edited or is not ours.

    Raises:
        ServiceError: The file is there and was edited, is not ours, or cannot be read.
    """
    file, content = supervisor.file(unit), supervisor.definition(unit)
    before = _content(file)
    change: Change = "written"
    if before is not None:
        change = "unchanged" if before == content else "updated"
        if change == "updated" and not force:
            _refuse_foreign(file, before, to="replace it")
    return Installation(
        file=file,
        content=content,
        change=change,
        steps=supervisor.install_steps(unit, changed=change != "unchanged"),
        folders=(file.parent, *supervisor.folders(unit)),
    )


def install(supervisor: Supervisor, plan: Installation) -> None:
    """Do what the plan says; doing it again does no harm.

    Raises:
        ServiceError: There is no service manager, it refused, or the file cannot be written.
    """
    supervisor.check()
    try:
        for folder in plan.folders:
            folder.mkdir(parents=True, exist_ok=True)
        if plan.change != "unchanged":
            _replace(plan.file, plan.content)
    except OSError as error:
        raise ServiceError(
            f"cannot write {plan.file}: {error.strerror}",
            hint="Check that its folder is yours, and that there is room on its disk.",
        ) from error
    run_steps(plan.steps)


def plan_removal(supervisor: Supervisor, unit: Unit, *, force: bool = False) -> Removal:
    """Return what uninstalling would do; nothing is touched.

    Args:
        supervisor: Where from.
        unit: What.
        force: Remove also what was edited since we wrote it.

    Raises:
        ServiceError: The file was edited or is not ours, or cannot be read.
    """
    file = supervisor.file(unit)
    content = _content(file)
    if content is None:
        return Removal(None, (), (), ())
    if not force or not is_ours(content):
        _refuse_foreign(file, content, to="remove it")
    additions = file.with_name(file.name + ".d")  # of `systemctl --user edit`
    return Removal(
        file=file,
        before=supervisor.steps_before_removal(unit),
        after=supervisor.steps_after_removal(unit),
        kept=(additions,) if additions.is_dir() else (),
    )


def uninstall(supervisor: Supervisor, plan: Removal) -> None:
    """Do what the plan says.

    Raises:
        ServiceError: The service manager is not there or refused, or the file cannot be removed.
    """
    if plan.file is None:
        return
    supervisor.check()
    run_steps(plan.before)
    try:
        plan.file.unlink(missing_ok=True)
    except OSError as error:
        raise ServiceError(
            f"cannot remove {plan.file}: {error.strerror}", hint="Remove it yourself."
        ) from error
    run_steps(plan.after)


def start(supervisor: Supervisor, unit: Unit) -> None:
    """Start an installed service.

    Raises:
        ServiceError: It is not installed, or the service manager refused.
    """
    _require(supervisor, unit)
    run_steps(supervisor.start_steps(unit))


def stop(supervisor: Supervisor, unit: Unit) -> None:
    """Stop an installed service.

    Raises:
        ServiceError: It is not installed, or the service manager refused.
    """
    _require(supervisor, unit)
    if not supervisor.asks_to_end:
        _ask_to_end(unit)
    run_steps(supervisor.stop_steps(unit))


def _ask_to_end(unit: Unit) -> None:
    """Have the daemon commit what it has computed; whatever runs then is ended all the same."""
    from siglip_search.service.client import DaemonUnavailableError, connect

    daemon = connect(unit.library)
    if daemon is not None:
        with suppress(DaemonUnavailableError):
            daemon.stop()


def _require(supervisor: Supervisor, unit: Unit) -> None:
    if _content(supervisor.file(unit)) is None:
        raise ServiceError(
            f"no service of the library {unit.library} is installed",
            hint=f"Install it: siglip-search service install{library_words(unit)}",
        )
    supervisor.check()


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError(
            f"cannot read {file}: {error.strerror}", hint="Check whose it is and what it is."
        ) from error


def _refuse_foreign(file: Path, content: bytes, *, to: str) -> None:
    if is_as_written(content):
        return
    if is_ours(content):
        raise ServiceError(f"{file} was edited", hint=f"To {to} nevertheless, give --force.")
    raise ServiceError(
        f"{file} was not written by siglip-search",
        hint="Move it away first.",
    )


def _replace(file: Path, content: bytes) -> None:
    """Put a whole file in place of another, or of none."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        os.chmod(name, 0o644)  # systemd complains of units that only some may read
        os.replace(name, file)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise
