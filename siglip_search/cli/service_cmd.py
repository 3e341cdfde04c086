"""`siglip-search service`: let the system keep `siglip-search watch` running."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    EXIT_NO_MATCH,
    chosen_library,
    duration,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.errors import ServiceError
from siglip_search.service import installation
from siglip_search.service.log_tail import following_lines, last_lines
from siglip_search.service.programs import run_program
from siglip_search.service.units import library_words, unit_of
from siglip_search.settings import log_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siglip_search.service.programs import Step
    from siglip_search.service.units import Unit, UnitState

force_option = click.option(
    "--force", is_flag=True, help="Also where the service's file was edited by hand."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Only show the file and the commands that would be run."
)


@click.group()
@library_option
def service() -> None:
    """Follow the folders in the background, from login on.

    The service runs `siglip-search watch`: under systemd as a service of yours, on macOS as a
    launch agent, on Windows as a scheduled task. Each library has its own.

    \b
      siglip-search service install
      siglip-search service status
    """


@service.command()
@click.option("--force", is_flag=True, help="Replace a file that was edited, or is not ours.")
@dry_run_option
@library_option
def install(force: bool, dry_run: bool) -> None:
    """Install the service and start it; done twice, it does no harm."""
    unit, supervisor = _unit(), installation.supervisor_here()
    plan = installation.plan_installation(supervisor, unit, force=force)
    if dry_run:
        print(f"# {shown(str(plan.file))}")
        print(plan.text)
        _print_steps(plan.steps)
        return
    installation.install(supervisor, plan)
    print(f"{shown(str(plan.file))}: {plan.change}")
    print(f"{unit.name} is enabled and starts now")
    for line in supervisor.advice(unit):
        say(shown(line))
    say(f"next: siglip-search service status{shown(library_words(unit))}")


@service.command()
@force_option
@dry_run_option
@library_option
def uninstall(force: bool, dry_run: bool) -> None:
    """Stop the service and remove what `install` wrote; library and pictures stay."""
    unit, supervisor = _unit(), installation.supervisor_here()
    plan = installation.plan_removal(supervisor, unit, force=force)
    if plan.file is None:
        print(f"{unit.name} is not installed")
        return
    if dry_run:
        print(f"# {shown(str(plan.file))} would be removed")
        _print_steps((*plan.before, *plan.after))
        return
    installation.uninstall(supervisor, plan)
    print(f"{shown(str(plan.file))}: removed")
    for path in plan.kept:
        say(f"{shown(str(path))} is yours and stays")


@service.command()
@library_option
def start() -> None:
    """Start the installed service."""
    unit = _unit()
    installation.start(installation.supervisor_here(), unit)
    print(f"{unit.name} starts")


@service.command()
@library_option
def stop() -> None:
    """Stop the service; it comes back at the next login (on Windows: with `start`)."""
    unit = _unit()
    installation.stop(installation.supervisor_here(), unit)
    print(f"{unit.name} is stopped")


@service.command()
@json_option
@library_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show whether the service is installed, enabled and running.

    Exits with 0 if it runs and with 1 if it does not. What it is doing shows
    `siglip-search status`.
    """
    unit, supervisor = _unit(), installation.supervisor_here()
    supervisor.check()
    state = supervisor.state(unit)
    if as_json:
        print_json(
            {
                "name": unit.name,
                "library": str(unit.library),
                "file": str(supervisor.file(unit)),
                "supervisor": supervisor.title,
                **dataclasses.asdict(state),
            }
        )
    else:
        _print_state(unit, state, supervisor.file(unit))
    context.exit(0 if state.running else EXIT_NO_MATCH)


@service.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="How many of the last lines.",
)
@library_option
def logs(follow: bool, lines: int) -> None:
    """Show what the service said: systemd's journal, or the log in the library's folder."""
    unit, supervisor = _unit(), installation.supervisor_here()
    command = supervisor.log_command(unit, lines=lines, follow=follow)
    # The journal may be kept from this user, or not be kept at all; journalctl calls that success.
    newest = supervisor.log_command(unit, lines=1, follow=False)
    if command is not None and newest is not None and run_program(newest).output.strip():
        _show(command)
        return
    log = log_file(unit.library)
    try:
        if not follow:
            _print_lines(last_lines(log, lines))
            return
        for line in following_lines(log, count=lines, stop=threading.Event()):
            _print_lines([line])
    except FileNotFoundError:
        raise ServiceError(
            f"there is no log yet: {log}",
            hint=f"Start the service: siglip-search service start{shown(library_words(unit))}",
        ) from None
    except OSError as error:
        if error.filename is None:  # not the log: the output's reader went away
            raise
        raise ServiceError(f"cannot read the log {log}: {error.strerror}") from error


def _unit() -> Unit:
    return unit_of(chosen_library().directory)


def _print_steps(steps: Sequence[Step]) -> None:
    print("# commands")
    for step in steps:
        print(f"{shown(str(step))}{'  # may fail' if step.may_fail else ''}")


def _print_state(unit: Unit, state: UnitState, file: Path) -> None:
    if not state.installed:
        print(f"{unit.name} is not installed")
        say(f"next: siglip-search service install{shown(library_words(unit))}")
        return
    words = "running" if state.running else "not running"
    if state.pid is not None:
        words += f", process {state.pid}"
    if state.since is not None:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.since))
        words += f", since {moment} ({duration(max(0.0, time.time() - state.since))})"
    if not state.running and state.exit_status is not None:
        words += f", ended with {_ending(state.exit_status)}"
    print(f"{unit.name} is {words}")
    starts = {True: "yes", False: "no", None: "unknown"}[state.enabled]
    print(f"starts by itself: {starts}")
    if state.detail:
        print(f"state: {shown(state.detail)}")
    print(f"file: {shown(str(file))}")
    if not state.running:
        say(f"next: siglip-search service logs{shown(library_words(unit))}")


def _ending(exit_status: int) -> str:
    return f"signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"


def _show(command: Sequence[str]) -> None:
    """Run a command that writes to our output."""
    sys.stdout.flush()
    # Ctrl-C reaches it too, and ends it first.
    subprocess.run(command, stdin=subprocess.DEVNULL, check=False)  # noqa: S603


def _print_lines(lines: Sequence[bytes]) -> None:
    for line in lines:
        print(shown(line.decode("utf-8", "replace")))
    sys.stdout.flush()
