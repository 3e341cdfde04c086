"""What the daemon says: lines for people or for programs, on stderr and in a file that rotates.

Whatever becomes of the file and of stderr (a full disk, a pipe whose reader went away), saying
something never fails and never waits for room: a line that cannot be written is left out.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

from siglip_index.errors import StoreError
from siglip_search.errors import SiglipSearchError
from siglip_search.settings import log_file

if TYPE_CHECKING:
    from types import TracebackType

LOG_FILE_BYTES = 1_000_000
LOG_FILES = 5

_LOGGER = "siglip_search.service"

# Of what systemd reads from stderr, the number of a line's urgency stands in front of it.
_SYSTEMD_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class Journal:
    """Everything that is worth a line while the daemon runs.

    Warnings of other parts of the program, which come through `logging`, are taken along.

    Args:
        directory: Folder of the library; the log's folder is made in it.
        json_lines: Write each line as one JSON object.
        level: Least level of `logging` that goes to stderr; the file has all from INFO on.
        stream: Where people look; stderr when None.
    """

    def __init__(
        self,
        directory: Path,
        *,
        json_lines: bool = False,
        level: int = logging.INFO,
        stream: TextIO | None = None,
    ) -> None:
        self._logger = logging.getLogger(_LOGGER)
        self._level_before = self._logger.level
        self._logger.setLevel(min(level, logging.INFO))
        for_systemd = stream is None and "JOURNAL_STREAM" in os.environ
        console = _Console(stream)
        console.setLevel(level)
        if json_lines:
            console.setFormatter(_JsonLines())
        else:
            console.setFormatter(_SystemdLines() if for_systemd else _Lines())
        file = _RotatingFile(log_file(directory))
        file.setLevel(logging.INFO)
        file.setFormatter(_JsonLines() if json_lines else _Lines())
        self._handlers: tuple[logging.Handler, ...] = (console, file)
        root = logging.getLogger()
        for handler in self._handlers:
            root.addHandler(handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self._tell_end(error)
        self.close()

    def debug(self, message: str, **facts: object) -> None:
        """Say what only somebody who looks for a fault wants to know."""
        self._say(logging.DEBUG, message, facts)

    def info(self, message: str, **facts: object) -> None:
        """Say what was done; facts are for programs, and people see the message alone."""
        self._say(logging.INFO, message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """Say what somebody may want to do something about."""
        self._say(logging.WARNING, message, facts)

    def error(self, message: str, *, trace: BaseException | None = None, **facts: object) -> None:
        """Say what went wrong.

        Args:
            message: One line.
            trace: A fault of the program, whose traceback is written with it.
            facts: For programs.
        """
        self._say(logging.ERROR, message, facts, trace)

    def close(self) -> None:
        """Write what is left and take no more; twice does no harm."""
        root = logging.getLogger()
        for handler in self._handlers:
            root.removeHandler(handler)
            with suppress(OSError, ValueError):
                handler.close()
        self._handlers = ()
        self._logger.setLevel(self._level_before)

    def _tell_end(self, error: Exception) -> None:
        """Write to the file alone what ends the program: who catches it tells the people."""
        logging.getLogger().removeHandler(self._handlers[0])
        if isinstance(error, SiglipSearchError | StoreError):
            self.error(str(error), hint=error.hint)
        else:
            self.error(f"the daemon failed: {error}", trace=error)

    def _say(
        self,
        level: int,
        message: str,
        facts: dict[str, object],
        trace: BaseException | None = None,
    ) -> None:
        self._logger.log(level, "%s", message, extra={"facts": facts}, exc_info=trace)


class _Console(logging.Handler):
    """Where people look, which may go away at any time.

    Args:
        stream: None for stderr as it is at each line: a progress line puts itself in front of it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; where nobody reads any more it is left out."""
        stream = self._stream or sys.stderr
        with suppress(OSError, ValueError):
            stream.write(self.format(record) + "\n")
            stream.flush()


class _RotatingFile(logging.handlers.RotatingFileHandler):
    """A log file whose disk may be full, read-only or gone."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            maxBytes=LOG_FILE_BYTES,
            backupCount=LOG_FILES - 1,
            encoding="utf-8",
            errors="backslashreplace",
            delay=True,
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in a folder that is made if it is not there."""
        if self._is_gone():
            self.handleError(record)
        if self.stream is None:
            with suppress(OSError):
                # Only the log's own folder: a library that was deleted is not brought back.
                Path(self.baseFilename).parent.mkdir(mode=0o700, exist_ok=True)
        super().emit(record)

    def _is_gone(self) -> bool:
        """Tell whether the open file is not the one that people would read."""
        if self.stream is None:
            return False
        try:
            # Windows deletes no file that is open.
            return not os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno()))
        except OSError:
            return True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave the line out, and open the file anew for the next one."""
        with suppress(OSError, ValueError):
            if self.stream is not None:
                self.stream.close()
        self.stream = None  # as `delay` leaves it as well


class _Lines(logging.Formatter):
    """A line for people: time, urgency where there is any, message."""

    def format(self, record: logging.LogRecord) -> str:
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{then} {_text(record)}{_trace(record)}"


class _SystemdLines(logging.Formatter):
    """A line for the journal of systemd, which adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        urgency = _SYSTEMD_PRIORITY.get(record.levelno, 6)
        lines = f"{_text(record)}{_trace(record)}".splitlines()
        return "\n".join(f"<{urgency}>{line}" for line in lines)


class _JsonLines(logging.Formatter):
    """A line for programs: one JSON object, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        entry = {
            **{name: _plain(value) for name, value in facts.items()},
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if trace := _trace(record):
            entry["traceback"] = trace.strip()
        return json.dumps(entry, default=str)


def _text(record: logging.LogRecord) -> str:
    message = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in record.getMessage()
    )
    urgency = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
    return f"{urgency}{message}"


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()


def _plain(value: object) -> object:
    return os.fsdecode(value) if isinstance(value, bytes) else value
