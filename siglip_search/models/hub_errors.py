"""What goes wrong between here and the hub, as one line with a remedy."""

from __future__ import annotations

import errno
import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from siglip_search.errors import DownloadError, ModelError
from siglip_search.models.files import storage_error
from siglip_search.models.registry import OFFLINE_REMARK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search.models.registry import RegistryRow


_OF_DISKS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
"""What goes wrong with an open file, whose name the error does not say; never with a connection."""


def http_error_type() -> type[Exception]:
    """Return the base of everything that the hub library's HTTP client raises."""
    from huggingface_hub.errors import HfHubHTTPError

    # It changed its client between versions; its own error knows which one it is.
    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


@contextmanager
def hub_errors(row: RegistryRow) -> Iterator[None]:
    """Turn what the hub library raises into one line with a remedy, and keep it quiet.

    Raises:
        DownloadError: If the hub's address is none, cannot be reached, or refuses.
        ModelError: If a file on this machine cannot be read or written.
    """
    # First, for the library itself cannot be imported with some of them.
    if "HF_ENDPOINT" in os.environ:
        _refuse_senseless(os.environ["HF_ENDPOINT"])
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, EntryNotFoundError, HFValidationError, http_error_type()) as error:
        raise _explain(row, error) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _refuse_senseless(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        # A port that is no number is noticed only when it is asked for.
        sensible = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sensible = False
    if not sensible:
        raise DownloadError(
            f"HF_ENDPOINT is {endpoint!r}, which is no address of a hub",
            hint=f"Unset it, or write it as https://HOST. {OFFLINE_REMARK}",
        )


def _explain(row: RegistryRow, error: BaseException) -> ModelError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        FileMetadataError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    what = f"the model {row.name!r} cannot be fetched"
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, OfflineModeIsEnabled | LocalEntryNotFoundError) and (
            constants.HF_HUB_OFFLINE
        ):
            return DownloadError(
                f"{what}: HF_HUB_OFFLINE is set, and it is not whole in the hub's cache",
                hint=f"Unset HF_HUB_OFFLINE to fetch it. {OFFLINE_REMARK}",
            )
        if isinstance(cause, HfHubHTTPError):
            return _refused(what, cause.response.status_code, str(cause.response.url))
        if isinstance(cause, FileMetadataError):
            return DownloadError(
                f"{what}: {constants.ENDPOINT} does not answer as a hub does",
                hint=f"Check HF_ENDPOINT, proxy and firewall. {OFFLINE_REMARK}",
            )
        if isinstance(cause, HFValidationError):
            # Stricter than `registry_file`, in a version that we do not know.
            return ModelError(f"{what}: {cause}", hint="Correct `repo` in models.toml.")
    for cause in chain:
        if isinstance(cause, OSError) and _is_local(cause):
            return storage_error(what, cause)
    return DownloadError(
        f"{what}: the connection to {constants.ENDPOINT} failed ({type(error).__name__})",
        hint=f"Check the network and run it again. {OFFLINE_REMARK}",
    )


def _is_local(error: OSError) -> bool:
    if isinstance(error, ssl.SSLError):  # its numbers are OpenSSL's own
        return False
    # A connection that fails has a number too, but never a file's name.
    return error.errno in _OF_DISKS or (error.errno is not None and error.filename is not None)


def _refused(what: str, status: int, url: str) -> DownloadError:
    if status in (401, 403):
        reason, remedy = "access was refused", "Log in with `hf auth login` or set HF_TOKEN."
    elif status == 404:
        reason, remedy = "it is not there", "Check HF_ENDPOINT, or upgrade siglip-search."
    elif status == 429:
        reason, remedy = "too many requests", "Wait a few minutes, or log in for a higher limit."
    else:
        reason, remedy = "the hub has trouble", "Try again later."
    # What follows the question mark may be a signature that lets anybody fetch the file.
    place = url.partition("?")[0]
    return DownloadError(
        f"{what}: {reason} (HTTP {status}, {place})", hint=f"{remedy} {OFFLINE_REMARK}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
