"""The report: Markdown to read and JSON to compare, without a word about whose machine it is."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware.outcome import FAIL, NOT_POSSIBLE, PASS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTENTS = (
    "This page holds what the system calls its processor and itself, versions of Python and of the "
    "libraries, the number of cores and the memory, and what was measured with the program's own "
    "demonstration pictures. It holds no name of a user or machine, no path of this machine "
    "and nothing of your pictures: look through it before you pass it on."
)
_MARKS = {PASS: "pass", FAIL: "**FAIL**", NOT_POSSIBLE: "not possible"}


class PersonalData:
    """What must not be in a report: where files lie here, and the names of user and machine.

    Make it before the environment is changed.

    Args:
        folder: Where the checks work.
        repository: Where this script lies.
    """

    def __init__(self, folder: Path, repository: Path) -> None:
        places = {
            "HOME": Path.home(),
            "TEMPORARY": Path(tempfile.gettempdir()),
            "PYTHON": Path(sys.prefix),
            "CHECK": folder,
            "REPOSITORY": repository,
            "HERE": Path.cwd(),
        }
        found = {os.fspath(path): word for word, path in places.items()}
        found |= {os.fspath(path.resolve()): word for word, path in places.items()}
        # The longest first: a temporary folder often lies in the user's own. No root of a disk.
        self._places = sorted(
            ((path, word) for path, word in found.items() if Path(path).parent != Path(path)),
            key=lambda place: -len(place[0]),
        )
        self._names = [(platform.node(), "MACHINE"), (_user(), "USER")]

    def removed(self, text: str) -> str:
        """Return the text with a word in place of each of them."""
        flags = re.IGNORECASE if os.name == "nt" else 0
        for path, word in self._places:
            text = re.sub(re.escape(path), word, text, flags=flags)
        for name, word in self._names:
            if name:
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", word, text, flags=re.IGNORECASE)
        return text

    def removed_everywhere(self, value: Any) -> Any:
        """Return lists and mappings with each text in them treated so."""
        if isinstance(value, str):
            return self.removed(value)
        if isinstance(value, dict):
            return {key: self.removed_everywhere(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.removed_everywhere(entry) for entry in value]
        return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # nobody in particular, as in some containers
        return ""


def as_markdown(
    device: str, day: str, quick: bool, checks: Sequence[Mapping[str, Any]], note: str
) -> str:
    """Return the report.

    Args:
        device: What was checked.
        day: When, as in 2026-11-21.
        quick: Whether it was the short form.
        checks: Of each: name, title, status, figures and advice.
        note: Stands before the results; may be "".
    """
    counts = ", ".join(
        f"{sum(check['status'] == status for check in checks)} {status}"
        for status in (PASS, FAIL, NOT_POSSIBLE)
    )
    form = ", the quick form" if quick else ""
    lines = [f"# siglip-search on `{device}`, {day}{form}", "", CONTENTS, ""]
    if note:
        lines += [note, ""]
    lines += [f"Checks: {counts}.", "", "| check | result |", "| --- | --- |"]
    lines += [f"| {check['title']} | {_MARKS[check['status']]} |" for check in checks]
    for check in checks:
        lines += ["", f"## {check['title']}: {check['status']}", ""]
        lines += [f"- {name}: {value}" for name, value in check["figures"].items()]
        if check["advice"]:
            label = "Why" if check["status"] == NOT_POSSIBLE else "What to do"
            lines += ["", f"{label}: {check['advice']}"]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"
