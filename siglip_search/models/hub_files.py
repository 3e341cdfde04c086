"""One file on the hub: what it is, where it is already, and a part of it.

The hub's own library reads HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, proxies and tokens from the
environment, as everywhere. A file that is whole in its cache is taken from there.
"""

from __future__ import annotations

import hashlib
import string
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DownloadError
from siglip_search.models.model_folder import sha256_of
from siglip_search.models.registry import OFFLINE_REMARK

if TYPE_CHECKING:
    from siglip_search.models.onnx_fields import ReadRange

REVISION: Final = "main"
TIMEOUT_S: Final = 30.0

LONGEST_PAUSE_S: Final = 60.0
"""A server that asks for a longer pause is not waited for."""

_LOOK_UPS: Final = 3


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub has it.

    Attributes:
        repo: Repository.
        name: Path in the repository, with forward slashes.
        url: Where it is fetched from; empty in offline mode.
        commit: State of the repository.
        etag: Identity of the content: the SHA-256 of a large file, git's SHA-1 of a small one.
        size_bytes: Length of the content.
        cached: The whole file in the hub library's own cache, if it is there.
    """

    repo: str
    name: str
    url: str
    commit: str
    etag: str
    size_bytes: int
    cached: Path | None

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return f"{self.name} of {self.repo}"

    @property
    def has_digest(self) -> bool:
        """Whether `etag` is a hash of the content, as it is everywhere but on some mirrors."""
        return _is_digest(self.etag, 64) or _is_digest(self.etag, 40)

    @property
    def identity(self) -> str:
        """Identity of the content, where it can be told; else of the repository's state."""
        if _is_digest(self.etag, 64):
            return f"sha256:{self.etag}"
        return f"hub:{self.repo}@{self.commit}"


def look_up(repo: str, name: str) -> HubFile:
    """Ask the hub for a file's identity; in offline mode, the hub library's cache.

    Raises:
        DownloadError: If the file is empty, which none of a model's files is.
        Exception: What the hub library raises; `hub_errors` explains it.
    """
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.errors import FileMetadataError

    if constants.HF_HUB_OFFLINE:
        return _offline(repo, name)
    url = hf_hub_url(repo, name, revision=REVISION)
    found = _metadata(url)
    if found.commit_hash is None or found.etag is None or found.size is None:
        raise FileMetadataError(f"{url} was answered without the hub's headers")
    _refuse_empty(repo, name, found.size)
    return HubFile(
        repo=repo,
        name=name,
        url=url,
        commit=found.commit_hash,
        etag=found.etag,
        size_bytes=found.size,
        cached=_cached(repo, name, found.commit_hash, found.size),
    )


def range_reader(file: HubFile) -> ReadRange:
    """Return a function that reads parts of a file, from the cache or by range requests."""
    if file.cached is not None:
        return _local_reader(file.cached)
    # Public by its documentation; its package only lacks the re-export marks.
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        get_session,
        hf_raise_for_status,
    )

    def read_range(start: int, count: int) -> bytes:
        headers = {**request_headers(), "Range": f"bytes={start}-{start + count - 1}"}
        # Streamed, so that a server that ignores the range does not send the whole checkpoint.
        with get_session().stream(
            "GET", file.url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S
        ) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:
                raise DownloadError(
                    f"{file.url} cannot be read in parts",
                    hint="A mirror or proxy drops Range requests: fetch without it. "
                    f"{OFFLINE_REMARK}",
                )
            content: bytes = response.read()
        if len(content) != count:
            raise DownloadError(
                f"{file.url} sent {len(content)} bytes where {count} were asked for",
                hint=f"Try again. {OFFLINE_REMARK}",
            )
        return content

    return read_range


def request_headers() -> dict[str, str]:
    """Return the headers of every request: the user's token, and no compression on the way.

    The client drops the token when it is sent on to another host.
    """
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # as above

    # Compressed, neither sizes nor ranges would be those of the file.
    return {**build_hf_headers(), "Accept-Encoding": "identity"}


def is_content(path: Path, etag: str) -> bool:
    """Compare a file with the hub's etag: SHA-256 of large files, git's blob SHA-1 of others.

    Raises:
        OSError: If the file cannot be read.
    """
    if _is_digest(etag, 64):
        return sha256_of(path) == etag
    if _is_digest(etag, 40):
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == etag
    return True  # a mirror's own kind of etag says nothing about the content


def pause_asked_for(response: Any) -> float | None:
    """Return how many seconds a server that refuses for now wants to be left alone.

    None where it does not say, or where it is longer than anybody would wait.
    """
    if response.status_code not in (429, 503):
        return None
    value = response.headers.get("Retry-After", "")
    if not value.isdigit() or int(value) > LONGEST_PAUSE_S:
        return None
    return float(value)


def _metadata(url: str) -> Any:
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(1, _LOOK_UPS + 1):
        try:
            return get_hf_file_metadata(url)
        except HfHubHTTPError as error:
            pause = pause_asked_for(error.response)
            if pause is None or attempt == _LOOK_UPS:
                raise
            time.sleep(pause)
    raise AssertionError("unreachable")


def _refuse_empty(repo: str, name: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise DownloadError(
            f"{name} of {repo} is empty",
            hint=f"The repository is damaged: try again when it has been mended. {OFFLINE_REMARK}",
        )


def _cached(repo: str, name: str, commit: str, size_bytes: int) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name, revision=commit)
    if not isinstance(found, str):
        return None
    path = Path(found)
    return path if path.stat().st_size == size_bytes else None


def _offline(repo: str, name: str) -> HubFile:
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(repo, name, revision=REVISION))
    _refuse_empty(repo, name, path.stat().st_size)
    # In the cache a file is called by its etag, and the name in a folder of its commit leads there.
    blob = path.resolve().name
    named = _is_digest(blob, 64) or _is_digest(blob, 40)
    return HubFile(
        repo=repo,
        name=name,
        url="",
        commit=path.parents[name.count("/")].name,
        etag=blob if named else sha256_of(path),
        size_bytes=path.stat().st_size,
        cached=path,
    )


def _local_reader(path: Path) -> ReadRange:
    def read_range(start: int, count: int) -> bytes:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read(count)

    return read_range


def _is_digest(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set(string.hexdigits)
