"""Semantic search for the pictures on your own disk.

>>> from siglip_search import open_library
>>> with open_library("library", model="demo") as library:  # doctest: +SKIP
...     library.index(["Pictures"])
...     library.search("red bicycle", top_k=20)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siglip_index.records import Where
    from siglip_search.engine.classification import classify_pictures
    from siglip_search.engine.library import Library, open_library
    from siglip_search.errors import SiglipSearchError
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import Answer, Hit

__all__ = [
    "Answer",
    "Hit",
    "Library",
    "Question",
    "SiglipSearchError",
    "Where",
    "classify_pictures",
    "open_library",
]

_HOMES = {
    "Answer": "siglip_search.search.ranking",
    "Hit": "siglip_search.search.ranking",
    "Library": "siglip_search.engine.library",
    "Question": "siglip_search.search.question",
    "SiglipSearchError": "siglip_search.errors",
    "Where": "siglip_index.records",
    "classify_pictures": "siglip_search.engine.classification",
    "open_library": "siglip_search.engine.library",
}


def __getattr__(name: str) -> object:
    # Importing the package does no work: a name is fetched when it is first used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
