"""Fetching one large file so that nothing that has arrived is ever fetched again.

What is there of a file lies beside a note that says which content it is part of. A cut connection
is taken up where it broke; so is a killed process, by the next one. The file takes its place only
when it is whole and its hash is right.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from siglip_index.durable_files import sync_directory, write_durably
from siglip_search.errors import DownloadError
from siglip_search.models.hub_errors import http_error_type
from siglip_search.models.hub_files import (
    TIMEOUT_S,
    is_content,
    pause_asked_for,
    request_headers,
)
from siglip_search.models.registry import OFFLINE_REMARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from siglip_search.models.hub_files import HubFile

_SYNC_BYTES: Final = 2**26
_FRUITLESS_TRIES: Final = 4
_FIRST_PAUSE_S: Final = 0.25


def fetch_file(
    file: HubFile, target: Path, partial: Path, *, on_bytes: Callable[[int], None]
) -> None:
    """Put a file of the hub at `target`, from the cache or over the network.

    Args:
        file: The file, as it was looked up.
        target: Where it belongs; a file that is there already is kept if it is the right one.
        partial: What is there of it so far, on the same file system. A note lies beside it.
        on_bytes: Called at once, and then often, with the number of bytes that are there.

    Raises:
        DownloadError: If what has arrived is not what the hub announced.
        OSError: If it cannot be written.
        Exception: What the hub library raises; `hub_errors` explains it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(file, partial, on_bytes)
    on_bytes(transfer.there())
    if not transfer.is_whole(target):
        if target.exists():
            # The note will speak of the new content: it must not vouch for the old.
            target.unlink()
            sync_directory(target.parent)
        if file.cached is not None:
            transfer.write_note(None)
            shutil.copyfile(file.cached, partial)
        else:
            transfer.run()
        if partial.stat().st_size != file.size_bytes or not is_content(partial, file.etag):
            partial.unlink()
            raise DownloadError(
                f"{file.label} arrived damaged", hint=f"Run it again. {OFFLINE_REMARK}"
            )
        partial.replace(target)
        if file.has_digest:
            _note_path(partial).unlink(missing_ok=True)
    on_bytes(file.size_bytes)


def bytes_missing(file: HubFile, target: Path, partial: Path) -> int:
    """Return how much room `fetch_file` will take beyond what is there."""
    if target.exists():
        return 0
    return file.size_bytes - _Transfer(file, partial, lambda _: None).there()


@dataclass(frozen=True, slots=True)
class _Note:
    """Which content a partial file belongs to.

    Attributes:
        etag: Identity of the content, as the hub announced it.
        validator: Strong etag of the server that sent the bytes, which may be another one; None
            if it sent none.
    """

    etag: str
    validator: str | None


class _Transfer:
    """Fills a partial file up, in as many requests as it takes."""

    def __init__(self, file: HubFile, partial: Path, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._partial = partial
        self._on_bytes = on_bytes

    def is_whole(self, target: Path) -> bool:
        """Tell whether a file that is in its place already is this very content."""
        if not target.exists() or target.stat().st_size != self._file.size_bytes:
            return False
        # A mirror's own kind of etag is no hash: there the note counts, kept from when it came.
        return is_content(target, self._file.etag) and (
            self._file.has_digest or self._note() is not None
        )

    def run(self) -> None:
        fruitless = 0
        while (begin := self.there()) < self._file.size_bytes:
            failure, pause_s = self._attempt(begin)
            there = self.there()
            if there == self._file.size_bytes:
                return
            # A connection that brought something is no failure, however often it breaks.
            fruitless = 0 if there > begin else fruitless + 1
            if fruitless == _FRUITLESS_TRIES:
                raise failure or DownloadError(
                    f"{self._file.label} stops after {begin} of {self._file.size_bytes} bytes",
                    hint=f"Try again later. {OFFLINE_REMARK}",
                )
            time.sleep(pause_s or _FIRST_PAUSE_S * 2**fruitless)

    def _attempt(self, begin: int) -> tuple[Exception | None, float | None]:
        """Ask once; return what went wrong, and how long the server wants to be left alone."""
        try:
            self._request(begin)
        except http_error_type() as error:
            response = getattr(error, "response", None)
            if response is None:  # the connection, not the server
                return error, None
            pause_s = pause_asked_for(response)
            if pause_s is None and response.status_code < 500:
                raise
            return error, pause_s
        return None, None

    def there(self) -> int:
        """Return how many bytes of this very content are there."""
        if self._partial.exists() and self._note() is not None:
            size = self._partial.stat().st_size
            if size <= self._file.size_bytes:
                return size
        return 0

    def _note(self) -> _Note | None:
        try:
            values = json.loads(_note_path(self._partial).read_bytes())
            note = _Note(values["etag"], values["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return note if note.etag == self._file.etag else None

    def _request(self, begin: int) -> None:
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # as in hub_files
            get_session,
            hf_raise_for_status,
        )

        headers = request_headers()
        note = self._note()
        validator = note.validator if note is not None and begin > 0 else None
        if begin > 0:
            headers["Range"] = f"bytes={begin}-"
        if validator is not None:
            headers["If-Range"] = validator
        with get_session().stream(
            "GET", self._file.url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S
        ) as response:
            hf_raise_for_status(response)
            if response.status_code == 206 and not _begins_at(response, begin):
                raise DownloadError(
                    f"{self._file.label} was answered with another part than was asked for",
                    hint=f"A mirror or proxy is in the way: fetch without it. {OFFLINE_REMARK}",
                )
            if response.status_code != 206 and validator is not None and self._file.has_digest:
                # Another server may have another etag for the same content. The hub says that it
                # is the same, and the hash will tell: what is there is not thrown away for that.
                self.write_note(None)
                return
            if response.status_code != 206:
                begin = 0
                self._partial.unlink(missing_ok=True)
                self.write_note(_validator(response))
            self._receive(response, begin)

    def write_note(self, validator: str | None) -> None:
        """Note which content the partial file belongs to, before there is any of it."""
        values = {"etag": self._file.etag, "validator": validator}
        content = json.dumps(values).encode()
        write_durably(_note_path(self._partial), lambda stream: stream.write(content))

    def _receive(self, response: Any, begin: int) -> None:
        done = synced = begin
        with self._partial.open("ab") as stream:
            try:
                # In pieces as they come: what is held back for a full one is lost with a cut.
                for chunk in response.iter_bytes():
                    stream.write(chunk)
                    done += len(chunk)
                    if done > self._file.size_bytes:
                        raise DownloadError(
                            f"{self._file.label} is longer than the hub announced",
                            hint=f"Run it again. {OFFLINE_REMARK}",
                        )
                    if done - synced >= _SYNC_BYTES:
                        _sync(stream)
                        synced = done
                    self._on_bytes(done)
            finally:
                _sync(stream)


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _begins_at(response: Any, begin: int) -> bool:
    said: str = response.headers.get("Content-Range", "")
    return said.startswith(f"bytes {begin}-")


def _validator(response: Any) -> str | None:
    # Only a strong one may be used with a range (RFC 9110, section 13.1.5).
    etag: str | None = response.headers.get("ETag")
    return etag if etag is not None and etag.startswith('"') else None


def _note_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")
