"""`siglip-search doctor`: is everything here as it has to be?"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    EXIT_NO_MATCH,
    count,
    json_option,
    library_option,
    print_json,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from siglip_search.engine.doctor import Section
    from siglip_search.engine.doctor_finding import Finding, Subject, Verdict
    from siglip_search.service.client import DaemonClient

_COLOURS: dict[Verdict, str] = {"good": "green", "note": "yellow", "bad": "red"}
_WATCHER_SECONDS = 10.0

# The commands of remedies that concern one library; `siglip-search[raw]` and the like are none.
_COMMAND = re.compile(
    r"\bsiglip-search (?=(?:forget|index|prune|roots|service|status|verify|watch)\b)"
)


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Show also what is good.")
@json_option
@library_option
@click.pass_context
def doctor(context: click.Context, show_all: bool, as_json: bool) -> None:
    """Look at the program, its folders, models, devices and limits, and say what to do.

    Nothing is changed, nothing fetched and no picture opened. Shown is what keeps something from
    working (bad) and what is worth knowing (note).

    Exit status: 0 when nothing is bad, 1 when something is, 2 on an error.
    """
    from siglip_search.engine.doctor import WATCHING, examine
    from siglip_search.engine.doctor_finding import Check
    from siglip_search.service.client import connect

    library = (context.obj or {}).get("library")
    subject = _subject(library)
    client = connect(subject.directory)
    if client is not None:
        client.close()  # the checks take longer than it would wait for a request
        subject = dataclasses.replace(subject, watcher_pid=client.pid)
    look = functools.partial(_look_at_watcher, client=client)
    watcher = Check(WATCHING, "watcher", look, _WATCHER_SECONDS)
    named = subject.directory if library is not None else None
    if as_json:
        sections = [_for_library(section, named) for section in examine(subject, more=[watcher])]
        print_json(_as_object(subject, sections))
    else:
        sections = examine(
            subject,
            more=[watcher],
            on_section=lambda section: _print(_for_library(section, named), show_all=show_all),
        )
        print(_summary(sections, show_all=show_all))
    if _having(sections, "bad"):
        context.exit(EXIT_NO_MATCH)


def _subject(library: str | None) -> Subject:
    """Return what is to be examined: with the defaults where the settings have a mistake."""
    from siglip_search.engine.doctor_finding import Subject
    from siglip_search.errors import SettingsError
    from siglip_search.service.address import address_file
    from siglip_search.settings import Settings, data_directory, load_settings
    from siglip_search.typed_paths import absolute_path

    mistake = None
    try:
        settings = load_settings()
    except SettingsError as error:
        mistake = error
        named = os.environ.get("SIGLIP_SEARCH_LIBRARY")
        settings = Settings(absolute_path(named) if named else data_directory() / "library")
    if library is not None:
        settings = dataclasses.replace(settings, library=absolute_path(library))
    return Subject(settings, mistake, runtime_directory=address_file(settings.library).parent)


def _look_at_watcher(_: Subject, client: DaemonClient | None) -> Iterable[Finding]:
    """Tell whether a watcher runs for this library, and whether it is of this version."""
    from siglip_search.engine.doctor_finding import Finding
    from siglip_search.service.client import DaemonUnavailableError

    if client is None:
        return [Finding("watcher", "good", "none runs for this library")]
    runs = f"process {client.pid}, version {client.version}"
    if not client.same_version:
        remedy = (
            "siglip-search service stop; siglip-search service start (or Ctrl-C where it runs in a "
            "terminal, and siglip-search watch)"
        )
        return [Finding("watcher", "note", f"{runs}: not the version of this command", remedy)]
    try:
        state = client.state()
    except DaemonUnavailableError as error:
        return [Finding("watcher", "note", f"{runs}: it does not tell what it does ({error})")]
    if state.why is not None:
        return [Finding("watcher", "note", f"{runs}, {state.doing}: {state.why}")]
    return [Finding("watcher", "good", f"{runs}, {state.doing}")]


def _for_library(section: Section, directory: Path | None) -> Section:
    """Return a section whose commands name the library, as the doctor was told it."""
    if directory is None:
        return section
    with_library = f"siglip-search --library {shlex.quote(str(directory))} "
    findings = tuple(
        dataclasses.replace(finding, remedy=_COMMAND.sub(lambda _: with_library, finding.remedy))
        if finding.remedy
        else finding
        for finding in section.findings
    )
    return dataclasses.replace(section, findings=findings)


def _print(section: Section, *, show_all: bool) -> None:
    told = [finding for finding in section.findings if show_all or finding.verdict != "good"]
    if not told:
        return
    print(section.title)
    for finding in told:
        mark = f"{finding.verdict:4}"
        if _in_colour():
            mark = click.style(mark, fg=_COLOURS[finding.verdict])
        print(f"  {mark}  {shown(finding.name)}: {shown(finding.what)}")
        if finding.remedy:
            print(f"        {shown(finding.remedy)}")
    sys.stdout.flush()


def _in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _summary(sections: Sequence[Section], *, show_all: bool) -> str:
    bad, notes, good = (len(_having(sections, verdict)) for verdict in ("bad", "note", "good"))
    parts = [
        f"{bad} bad" if bad else "nothing is bad",
        *([count(notes, "note")] if notes else []),
        f"{good} good" + ("" if show_all else " (--all shows them)"),
    ]
    return ", ".join(parts)


def _having(sections: Sequence[Section], verdict: str) -> list[Finding]:
    return [one for section in sections for one in section.findings if one.verdict == verdict]


def _as_object(subject: Subject, sections: Sequence[Section]) -> dict[str, object]:
    return {
        "library": subject.directory,
        **{verdict: len(_having(sections, verdict)) for verdict in ("bad", "note", "good")},
        "findings": [
            {"section": section.title, **dataclasses.asdict(finding)}
            for section in sections
            for finding in section.findings
        ],
    }
