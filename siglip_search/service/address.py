"""Where the daemon of a library is spoken to, and that nobody else listens or speaks there.

On POSIX it is a Unix socket in a folder that only its user can enter. On Windows it is a port of
the loopback interface: its number, and the secret that both sides prove to know, stand in a file in
the user's own temporary folder. Nothing is trusted that another user could have put there.

platformdirs knows a runtime folder too, but warns on stderr where the variable for it is unset, as
in a job of cron; there a command has to find the daemon as well, and to print nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_search.errors import PathError

if TYPE_CHECKING:
    import socket

_FOLDER_NAME = "siglip-search"

# sockaddr_un has room for 104 bytes on macOS and 108 on Linux, the final NUL among them.
_LONGEST_SOCKET_PATH = 103

# Commands that wait to be greeted; more than ever come at once.
_BACKLOG = 64

# Loopback and Unix sockets answer or refuse at once; only a full backlog makes anyone wait.
_DIAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A socket, and what both ends of it have to prove.

    Attributes:
        socket: Listening, or connected.
        secret: Which both sides know; None where the operating system vouches for them.
    """

    socket: socket.socket
    secret: bytes | None = None


def uses_loopback() -> bool:
    """Tell whether this system has no Unix sockets that Python knows."""
    return os.name == "nt"


def address_file(directory: Path) -> Path:
    """Return the socket, or the file that names the port, of a library's daemon.

    The name stands for the library's real path: every path to the library leads to one daemon.
    """
    real = os.path.normcase(os.path.realpath(directory))
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    file_name = f"{name}.json" if uses_loopback() else f"{name}.sock"
    return _runtime_folder(len(file_name)) / file_name


def listen(directory: Path) -> Line:
    """Listen for a library; what a dead daemon left is replaced.

    Whoever calls this holds the daemon's lock of the library: what lies there is nobody's.

    Raises:
        PathError: The folder for it belongs to somebody else, or cannot be made.
    """
    import socket

    place = address_file(directory)
    try:
        make_private(place.parent)
        if uses_loopback():
            return _listen_on_loopback(place)
        _remove_stale(place)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(os.fspath(place))
            # The folder keeps others out already; some systems ask for the socket's own mode too.
            place.chmod(0o600)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        return Line(listening)
    except OSError as error:
        raise PathError(
            f"commands cannot reach this process through {place}: {error.strerror or error}",
            hint="Check that its folder is yours, and that there is room on its disk.",
        ) from error


def hang_up(directory: Path) -> None:
    """Remove the address of a library whose daemon ends."""
    with suppress(OSError):
        address_file(directory).unlink(missing_ok=True)


def dial(directory: Path) -> Line | None:
    """Return a connection to whoever listens for a library; None when nobody does.

    Without a daemon this is a look at one name in a folder.
    """
    place = address_file(directory)
    if not _is_trustworthy(place):
        return None
    import socket

    if uses_loopback():
        return _dial_loopback(place)
    from siglip_search.service.peer import is_same_user

    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(_DIAL_SECONDS)
    try:
        line.connect(os.fspath(place))
        if is_same_user(line):
            return Line(line)
    except OSError:
        pass  # nobody listens any more
    line.close()
    return None


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, or see that it is one.

    Raises:
        PathError: It is a link, or another user's.
        OSError: It cannot be made.
    """
    with suppress(FileExistsError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    if os.name == "nt":
        return  # below the user's own profile, which the system keeps private
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PathError(
            f"{folder} is a link or belongs to another user",
            hint="Remove it, or set XDG_RUNTIME_DIR to a folder of your own, for every command.",
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _runtime_folder(name_bytes: int) -> Path:
    """Return the folder of addresses, which need not exist.

    Args:
        name_bytes: Length of the longest name in it.
    """
    name = _FOLDER_NAME
    if os.name != "nt":
        user = os.getuid()
        for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
            place = Path(folder, name)
            if os.path.isabs(folder) and _fits(place, name_bytes) and _is_own_folder(folder):
                return place
        name = f"{name}-{user}"
    import tempfile  # which loads much, for a question that is to be quick

    return Path(tempfile.gettempdir(), name)


def _fits(folder: Path, name_bytes: int) -> bool:
    return len(os.fsencode(folder)) + 1 + name_bytes <= _LONGEST_SOCKET_PATH


def _is_own_folder(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_trustworthy(place: Path) -> bool:
    """Tell whether an address is there that only this user can have written."""
    try:
        found, folder = place.lstat(), place.parent.lstat()
    except OSError:
        return False
    if os.name == "nt":
        return stat.S_ISREG(found.st_mode)
    return (
        (stat.S_ISREG if uses_loopback() else stat.S_ISSOCK)(found.st_mode)
        and stat.S_ISDIR(folder.st_mode)
        and not stat.S_IMODE(folder.st_mode) & 0o077
        and folder.st_uid == found.st_uid == os.getuid()
    )


def _remove_stale(place: Path) -> None:
    try:
        found = place.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise PathError(f"{place} is a folder", hint="Remove it: an address goes there.")
    place.unlink()


def _listen_on_loopback(place: Path) -> Line:
    import secrets
    import socket

    secret = secrets.token_bytes(32)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind(("127.0.0.1", 0))
        listening.listen(_BACKLOG)
        content = json.dumps({"port": listening.getsockname()[1], "secret": secret.hex()})
        fresh = place.with_suffix(f".{os.getpid()}.tmp")
        _remove_stale(fresh)
        # For this user alone from its first moment; a reader finds all of it or nothing.
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        fresh.replace(place)
    except OSError:
        listening.close()
        raise
    return Line(listening, secret)


def _dial_loopback(place: Path) -> Line | None:
    import socket

    try:
        content = json.loads(place.read_bytes())
        port, secret = int(content["port"]), bytes.fromhex(content["secret"])
        return Line(socket.create_connection(("127.0.0.1", port), _DIAL_SECONDS), secret)
    except (OSError, OverflowError, ValueError, TypeError, KeyError):
        return None
