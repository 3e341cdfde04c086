"""Virtual albums: folders of links to the pictures that saved searches find."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.engine.album_folder import MANIFEST, fill_album, make_album, require_album
from siglip_search.errors import PathError, SiglipSearchError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from siglip_search.engine.album_folder import AlbumReport
    from siglip_search.engine.library import Library
    from siglip_search.search.saved import SavedSearch

_log = logging.getLogger(__name__)


def log_failure(failure: str, hint: str) -> None:
    """Say in the log that an album was not brought up to date."""
    _log.warning("%s", failure)


def refresh_albums(
    library: Library,
    *,
    make: bool = False,
    stop: threading.Event | None = None,
    on_failure: Callable[[str, str], None] = log_failure,
) -> list[AlbumReport]:
    """Bring the albums of all saved searches up to date.

    Args:
        library: Which answers.
        make: Make those that are missing.
        stop: When set, the rest is left as it is.
        on_failure: Is told what was wrong with an album, and what to do; the others go on.
    """
    reports = []
    for saved in library.saved_searches().all():
        if stop is not None and stop.is_set():
            break
        if saved.album is None:
            continue
        try:
            reports.append(refresh_album(library, saved, make=make, stop=stop))
        except (SiglipSearchError, StoreError) as error:
            on_failure(
                f"the album of {saved.name!r} was not brought up to date: {error}", error.hint
            )
    return reports


def refresh_album(
    library: Library,
    saved: SavedSearch,
    *,
    make: bool = False,
    stop: threading.Event | None = None,
) -> AlbumReport:
    """Bring the album of a saved search up to date with what the search finds now.

    Args:
        library: Which answers.
        saved: The search; it has an album.
        make: Make the album if it is missing. Unasked it is not: where its drive is away it would
            be made in the empty folder at which the drive appears.
        stop: When set, the rest is left as it is.

    Raises:
        PathError: The folder is missing, holds other files, or cannot be written to.
        QueryError, ModelError, DeviceError: The search fails.
    """
    assert saved.album is not None
    folder = Path(saved.album)
    if not folder.is_absolute():
        raise PathError(
            f"the album {folder} is on another machine",
            hint="Give it a folder on this one: siglip-search save --replace ... --album DIR",
        )
    require_album(folder, (root.path for root in library.roots()))
    if make:
        # Before the search, which may fail now: the next refresh finds it.
        with _explained(folder):
            make_album(folder)
    elif not os.path.lexists(folder / MANIFEST):
        raise PathError(
            f"the album {folder} is not there",
            hint="Connect its drive, or have it made again: siglip-search saved albums",
        )
    # Local times, as cameras show them.
    answer = library.answer(saved.asked_at(datetime.now()))
    with _explained(folder):
        return fill_album(folder, [hit.path for hit in answer.hits], stop)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PathError(
            f"the album {folder} cannot be written: {error.strerror or error}",
            hint="Free its disk or give it another folder: siglip-search save --replace ...",
        ) from error
