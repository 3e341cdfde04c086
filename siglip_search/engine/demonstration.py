"""The whole main job on the bundled gallery, in a folder of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_search import demo
from siglip_search.engine.library import Library
from siglip_search.render.contact_sheet import SheetRow, Tile, save_contact_sheet
from siglip_search.settings import Settings

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from siglip_search.engine.indexing import IndexListener
    from siglip_search.ingest.report import IngestReport
    from siglip_search.search.ranking import Answer

TITLE = "siglip-search demo: drawings, not photographs"

# Ordinary queries on the ordinary path; the last two ask for what the gallery does not hold.
QUERIES = (
    "red bicycle",
    "a dog on the beach",
    "three bicycles in the rain",
    "yellow fruit",
    "a vehicle in the city",
    "something in the snow",
    "a castle",
    "the prime minister",
)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demonstration showed.

    Attributes:
        pictures: Folder of the gallery's copy.
        library: Folder of the library that was made.
        sheet: The contact sheet.
        report: What indexing did.
        answers: Each query with its answer.
        notice: What has to be said of the model.
    """

    pictures: Path
    library: Path
    sheet: Path
    report: IngestReport
    answers: tuple[tuple[str, Answer], ...]
    notice: str | None


def lay_out_gallery(directory: Path) -> None:
    """Copy the gallery to "pictures" in a folder, which is made if need be.

    Raises:
        OSError: The operating system refuses.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copytree(demo.gallery_directory(), directory / "pictures", dirs_exist_ok=True)


def demonstrate(
    directory: Path,
    *,
    queries: Sequence[str] = QUERIES,
    stop: threading.Event | None = None,
    listener: IndexListener | None = None,
) -> Demonstration:
    """Index the gallery by the ordinary path and ask a few queries.

    Args:
        directory: Where the gallery was laid out; "library" and "contact-sheet.png" are made in it.
        queries: What to ask.
        stop: When set, the indexing stops.
        listener: Who wants to know about the indexing.
    """
    pictures = directory / "pictures"
    sheet = directory / "contact-sheet.png"
    # Seconds of work, and somebody waits for them: no reason to spare the battery.
    settings = Settings(library=directory / "library", on_battery="run")
    with Library(settings, model="demo") as library:
        report = library.index([pictures], stop=stop, listener=listener)
        answers = tuple((query, library.answer(query, top_k=6)) for query in queries)
        notice = library.notice()
    rows = [
        SheetRow(query, [Tile(hit.path, f"{hit.score:.0%}") for hit in answer.hits])
        for query, answer in answers
    ]
    save_contact_sheet(rows, sheet, title=TITLE)
    return Demonstration(pictures, library.directory, sheet, report, answers, notice)
