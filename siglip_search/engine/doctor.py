"""Is everything here as it has to be? A list of independent checks, each of which only looks.

Nothing is changed, nothing fetched and no picture opened. A check that fails, or that gets no
answer from the machine, is a finding itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from siglip_search.engine import (
    doctor_checks_library,
    doctor_checks_machine,
    doctor_checks_models,
    doctor_checks_places,
    doctor_checks_program,
    doctor_checks_roots,
    doctor_checks_watching,
)
from siglip_search.engine.doctor_finding import Check, Finding, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM, PLACES, LIBRARY = "program", "places", "library"
MODELS, MACHINE, FOLDERS, WATCHING = "models", "machine", "folders", "watching"

# A probe of an NPU may take a minute until its driver counts as hanging, and there are two.
_DEVICES_SECONDS = 150.0
_ROOT_SECONDS = 10.0
_OPENING_SECONDS = 60.0

_CHECKS = (
    Check(PROGRAM, "program", doctor_checks_program.look_at_program),
    Check(PROGRAM, "architecture", doctor_checks_program.look_for_emulation),
    Check(PROGRAM, "SQLite", doctor_checks_program.look_at_sqlite),
    Check(PROGRAM, "packages", doctor_checks_program.look_at_packages),
    Check(PROGRAM, "extras", doctor_checks_program.look_at_extras),
    Check(PLACES, "settings", doctor_checks_places.look_at_settings),
    Check(PLACES, "own models", doctor_checks_places.look_at_own_models),
    Check(PLACES, "permissions", doctor_checks_places.look_at_permissions),
    Check(PLACES, "runtime folder", doctor_checks_places.look_at_runtime_folder),
    Check(PLACES, "file system", doctor_checks_places.look_at_file_system),
    Check(PLACES, "free space", doctor_checks_places.look_at_free_space),
    Check(LIBRARY, "library", doctor_checks_library.look_at_library),
    Check(LIBRARY, "snapshots", doctor_checks_library.look_at_snapshots),
    Check(LIBRARY, "leftovers", doctor_checks_library.look_for_leftovers),
    Check(LIBRARY, "clock", doctor_checks_library.look_at_clock),
    Check(MODELS, "installed models", doctor_checks_models.look_at_installed),
    Check(MODELS, "the library's model", doctor_checks_models.look_at_chosen),
    Check(MACHINE, "ONNX Runtime", doctor_checks_machine.look_at_runtime),
    Check(MACHINE, "devices", doctor_checks_machine.look_at_devices, _DEVICES_SECONDS),
    Check(MACHINE, "memory", doctor_checks_machine.look_at_memory),
    Check(MACHINE, "power", doctor_checks_machine.look_at_power),
    Check(MACHINE, "open files", doctor_checks_machine.look_at_open_files),
)


@dataclass(frozen=True, slots=True)
class Section:
    """Findings that belong together."""

    title: str
    findings: tuple[Finding, ...]


def examine(
    subject: Subject,
    *,
    more: Sequence[Check] = (),
    on_section: Callable[[Section], None] = lambda section: None,
) -> list[Section]:
    """Run every check; none of them raises.

    Args:
        subject: What is examined; the library is read here.
        more: Checks of those above, in their own sections or at the end of one of ours.
        on_section: Told of each section as soon as it is done.
    """
    subject = _with_library(subject)
    checks = [*_CHECKS, *_checks_of_roots(subject), *more]
    sections = []
    for title in dict.fromkeys(check.section for check in checks):
        findings = [
            finding
            for check in checks
            if check.section == title
            for finding in run_check(check, subject)
        ]
        sections.append(Section(title, tuple(findings)))
        on_section(sections[-1])
    return sections


def run_check(check: Check, subject: Subject) -> list[Finding]:
    """Return what a check finds, or that it failed or got no answer."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(check.look(subject))
        # Whatever is wrong with a machine, the other checks have to be run and told.
        except Exception as error:  # noqa: BLE001
            what = f"could not be examined: {type(error).__name__}: {error}"
            found.append(Finding(check.name, "bad", " ".join(what.split())))

    # A dead server's share may keep a thread waiting for ever: it is left behind.
    thread = threading.Thread(target=look, daemon=True, name=f"doctor {check.name}")
    thread.start()
    thread.join(check.limit_seconds)
    if thread.is_alive():
        what = f"no answer in {check.limit_seconds:g} s"
        return [*found, Finding(check.name, "bad", what, "Look at the disk or share it lies on.")]
    return found


def _with_library(subject: Subject) -> Subject:
    """Return the subject with what is in its library, or why that cannot be read."""
    read: list[Subject] = []

    def look(subject: Subject) -> list[Finding]:
        read.append(doctor_checks_library.with_library(subject))
        return []

    check = Check(LIBRARY, "library", look, _OPENING_SECONDS)
    for failed in run_check(check, subject):
        return replace(subject, library_error=failed.what, library_remedy=failed.remedy or "")
    return read[0]


def _checks_of_roots(subject: Subject) -> list[Check]:
    roots = subject.library.roots if subject.library is not None else ()
    return [
        *(
            Check(
                FOLDERS,
                doctor_checks_roots.name_of(facts),
                partial(doctor_checks_roots.look_at_root, facts=facts),
                _ROOT_SECONDS,
            )
            for facts in roots
        ),
        Check(FOLDERS, "folders", doctor_checks_roots.look_for_same_folders),
        Check(WATCHING, "inotify", doctor_checks_watching.look_at_inotify),
    ]
