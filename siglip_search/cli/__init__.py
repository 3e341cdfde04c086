"""The command line: parse, one call, print."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import click

from siglip_index.errors import StoreError
from siglip_search.cli.console import (
    COMPLETION_VARIABLE,
    EXIT_BROKEN_PIPE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    library_option,
    say,
    shown,
)
from siglip_search.cli.lazy_group import LazyGroup
from siglip_search.errors import SiglipSearchError

_COMMANDS = {
    "index": "index_cmd",
    "query": "query_cmd",
    "save": "save_cmd",
    "saved": "saved_cmd",
    "calibrate": "calibrate_cmd",
    "tag": "tag_cmd",
    "dupes": "dupes_cmd",
    "watch": "watch_cmd",
    "classify": "classify_cmd",
    "status": "status_cmd",
    "demo": "demo_cmd",
    "model": "model_cmd",
    "devices": "devices_cmd",
    "doctor": "doctor_cmd",
    "verify": "verify_cmd",
    "prune": "prune_cmd",
    "forget": "forget_cmd",
    "roots": "roots_cmd",
    "paths": "paths_cmd",
    "export": "export_cmd",
    "backup": "backup_cmd",
    "restore": "backup_cmd",
    "purge": "purge_cmd",
    "service": "service_cmd",
    "completion": "completion_cmd",
}


@click.group(
    cls=LazyGroup,
    members=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="siglip-search", prog_name="siglip-search")
@library_option
def command_line() -> None:
    """Search the pictures on your own disk by what is in them.

    \b
      siglip-search index ~/Pictures
      siglip-search query "red bicycle"

    Nothing leaves this machine. `siglip-search demo` shows it on drawings of its own.
    """


def main() -> None:
    """Run the command line and exit.

    0 match or done, 1 no match, 2 error, 130 interrupted, 141 the reader of the output went away.
    """
    # Python without a console window (pythonw, as the scheduled task runs it) has neither.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = EXIT_ERROR
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        code = EXIT_INTERRUPTED
    except (SiglipSearchError, StoreError) as error:
        say(f"siglip-search: {shown(str(error))}")
        if error.hint:
            say(f"  {shown(error.hint)}")
        code = EXIT_ERROR
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        if error.errno == errno.EPIPE:
            code = EXIT_BROKEN_PIPE  # the reader (`head`, say) has had enough
        else:
            say(f"siglip-search: the output cannot be written: {error.strerror}")
            code = EXIT_ERROR
        # Point stdout away, or the interpreter complains about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code if isinstance(code, int) else 0)


def _run() -> Any:
    try:
        return command_line.main(standalone_mode=False)
    except SystemExit as error:
        # click ends the program by itself in two cases: it has answered a shell that completes, or
        # the output's reader went away.
        if COMPLETION_VARIABLE in os.environ:
            raise
        raise BrokenPipeError(errno.EPIPE, "broken pipe") from error
