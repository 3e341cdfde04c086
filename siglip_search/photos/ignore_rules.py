"""The patterns of .gitignore files, for a walk that enters no folder that is left out.

As the gitignore(5) manual and git's wildmatch.c have them. The library pathspec was tried and
judges whole paths at once: compared with git on random patterns it differed on "folder/**" before
"!file", on "*" before "!a.jpg" and "!folder/", and on folders taken back in by a nested file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_POSIX_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb" \t\r\n\v\f",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line.

    Attributes:
        text: As it was written.
        number: Which line of its source it is, from 1.
        takes_back_in: It began with "!".
        folders_only: It ended with "/".
        whole_path: Whether the path or only its last name is compared.
        expression: What has to match completely.
    """

    text: bytes
    number: int
    takes_back_in: bool
    folders_only: bool
    whole_path: bool
    expression: re.Pattern[bytes]


class IgnoreRules:
    """The patterns of one source, such as an ignore file."""

    def __init__(self, lines: Iterable[bytes], *, lenient: bool = False) -> None:
        """Compile the patterns; blank lines and comments are none.

        Args:
            lines: Without line feeds.
            lenient: Pass over malformed patterns, as git does.

        Raises:
            ValueError: If a pattern is malformed and not to be passed over.
        """
        self._patterns: list[Pattern] = []
        for number, line in enumerate(lines, 1):
            try:
                pattern = _parse(line, number)
            except ValueError:
                if not lenient:
                    raise
                continue
            if pattern is not None:
                self._patterns.append(pattern)
        # The last pattern that matches decides.
        self._patterns.reverse()

    def deciding(self, path: bytes, *, is_folder: bool) -> Pattern | None:
        """Return the pattern that decides about a file or folder.

        Args:
            path: Relative to the folder that the patterns are for, "/"-separated. The folders
                above it are taken to be let in.
            is_folder: Whether it is a folder, or a link to one.

        Returns:
            None when no pattern says anything about it.
        """
        name = path[path.rfind(b"/") + 1 :]
        for pattern in self._patterns:
            if pattern.folders_only and not is_folder:
                continue
            if pattern.expression.fullmatch(path if pattern.whole_path else name):
                return pattern
        return None


def _parse(line: bytes, number: int) -> Pattern | None:
    if line.startswith(b"#"):
        return None
    glob = _without_trailing_spaces(line.removesuffix(b"\r"))
    if not glob:
        return None
    takes_back_in = glob.startswith(b"!")
    if takes_back_in:
        glob = glob[1:]
    folders_only = glob.endswith(b"/")
    if folders_only:
        glob = glob[:-1]
    whole_path = b"/" in glob
    glob = glob.removeprefix(b"/")
    if not glob:
        raise ValueError("it names nothing")
    return Pattern(
        text=line.removesuffix(b"\r"),
        number=number,
        takes_back_in=takes_back_in,
        folders_only=folders_only,
        whole_path=whole_path,
        expression=re.compile(_translate(glob, whole_path), re.DOTALL),
    )


def _without_trailing_spaces(line: bytes) -> bytes:
    stripped = line.rstrip(b" ")
    backslashes = len(stripped) - len(stripped.rstrip(b"\\"))
    is_escaped = backslashes % 2 == 1 and len(stripped) < len(line)
    return stripped + b" " if is_escaped else stripped


def _translate(glob: bytes, whole_path: bool) -> bytes:
    """Translate a shell pattern to a regular expression."""
    parts: list[bytes] = []
    at = 0
    while at < len(glob):
        character = glob[at : at + 1]
        if character == b"*":
            end = at
            while glob[end : end + 1] == b"*":
                end += 1
            begins_name = at == 0 or glob[at - 1 : at] == b"/"
            if not (whole_path and end - at > 1 and begins_name):
                parts.append(rb"[^/]*")
            elif end == len(glob):
                parts.append(rb".+")
            elif glob[end : end + 1] == b"/":
                parts.append(rb"(?:.+/)?")
                end += 1
            else:
                parts.append(rb"[^/]*")
            at = end
        elif character == b"?":
            parts.append(rb"[^/]")
            at += 1
        elif character == b"[":
            expression, at = _translate_set(glob, at + 1)
            parts.append(expression)
        else:
            if character == b"\\":
                at += 1
                character = glob[at : at + 1]
                if not character:
                    raise ValueError("it ends with a backslash")
            parts.append(re.escape(character))
            at += 1
    return b"".join(parts)


def _translate_set(glob: bytes, at: int) -> tuple[bytes, int]:
    """Translate "[...]" from behind its bracket; return it and where the rest begins."""
    is_negated = glob[at : at + 1] in (b"!", b"^")
    if is_negated:
        at += 1
    members: list[bytes] = []
    first = at
    while glob[at : at + 1] != b"]" or at == first:
        if glob[at : at + 2] == b"[:":
            end = glob.find(b":]", at)
            name = glob[at + 2 : end] if end > 0 else b""
            if name not in _POSIX_CLASSES:
                raise ValueError("a class of characters that does not exist")
            members.append(_POSIX_CLASSES[name])
            at = end + 2
            continue
        low, at = _set_member(glob, at)
        if glob[at : at + 1] == b"-" and glob[at + 1 : at + 2] not in (b"]", b""):
            high, at = _set_member(glob, at + 1)
            if low <= high:
                members.append(re.escape(low) + b"-" + re.escape(high))
        else:
            members.append(re.escape(low))
    # A set never matches the separator, whatever it holds.
    inside = b"".join(members)
    if not inside:
        return (rb"[^/]" if is_negated else rb"(?!)"), at + 1
    return rb"(?!/)[" + (b"^" if is_negated else b"") + inside + b"]", at + 1


def _set_member(glob: bytes, at: int) -> tuple[bytes, int]:
    if glob[at : at + 1] == b"\\":
        at += 1
    member = glob[at : at + 1]
    if not member:
        raise ValueError('a "[" without its "]"')
    return member, at + 1
