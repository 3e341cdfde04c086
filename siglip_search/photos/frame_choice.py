"""Which of several pictures in one file is the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS

if TYPE_CHECKING:
    from PIL import Image, ImageFile

# TIFF 6.0, tag 254: bit 0 says that it is a smaller version of another image in the file.
_NEW_SUBFILE_TYPE, _REDUCED = 254, 1
# Its predecessor, tag 255: 2 says the same.
_SUBFILE_TYPE, _OLD_REDUCED = 255, 2
_SUB_IFDS = 330

_MAX_PAGES = 64

# A first page up to this size may be a thumbnail that does not say so.
_THUMBNAIL_MAX_SIDE = 1024

_ANIMATED_FORMATS = frozenset({"GIF", "WEBP", "PNG", "AVIF"})

# Fading in takes a second or two.
_MAX_BLANK_FRAMES = 16


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    size: tuple[int, int]
    is_reduced: bool


def choose_page(image: ImageFile.ImageFile) -> None:
    """Go to the page of a TIFF that is the photograph: the first one that is no thumbnail.

    A page is a thumbnail when it says so, and also when a later page has its proportions and at
    least twice its width: not every program says so.

    Args:
        image: Opened as TIFF, at its first page; left at the chosen one, which is not loaded.

    Raises:
        UnreadablePictureError: If only a thumbnail can be reached.
    """
    first = _page(image, 0)
    if not first.is_reduced and max(first.size) > _THUMBNAIL_MAX_SIDE:
        return
    has_hidden_pages = _SUB_IFDS in image.tag_v2  # type: ignore[attr-defined]
    pages = [first]
    for number in range(1, _MAX_PAGES):
        try:
            image.seek(number)
            pages.append(_page(image, number))
        except EOFError:
            break
        except BAD_DATA_ERRORS:
            continue
    image.seek(_chosen(pages, has_hidden_pages=has_hidden_pages).number)


def _chosen(pages: list[_Page], *, has_hidden_pages: bool) -> _Page:
    first, whole = pages[0], [page for page in pages if not page.is_reduced]
    if first.is_reduced and whole:
        return whole[0]
    if first.is_reduced and has_hidden_pages:
        raise UnreadablePictureError("unsupported TIFF: only its thumbnail can be read")
    larger = [page for page in pages if _is_larger_version(page, first)]
    return max(larger, key=lambda page: page.size, default=first)


def _page(image: Image.Image, number: int) -> _Page:
    tags = image.tag_v2  # type: ignore[attr-defined]
    kind = tags.get(_NEW_SUBFILE_TYPE, 0)
    is_reduced = isinstance(kind, int) and bool(kind & _REDUCED)
    return _Page(number, image.size, is_reduced or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED)


def _is_larger_version(page: _Page, first: _Page) -> bool:
    (width, height), (first_width, first_height) = page.size, first.size
    if width < 2 * first_width or first_width <= 0 or first_height <= 0:
        return False
    # The smaller one was rounded to whole pixels.
    return abs(height * first_width / width - first_height) <= 1


def load_first_drawn_frame(image: ImageFile.ImageFile) -> None:
    """Load the first frame; of an animation that begins blank, the first one that shows anything.

    Blank is what is of one colour or altogether transparent. When nothing else comes within the
    first frames, the first it is.

    Args:
        image: At its first frame. Damage in later frames is left to be.

    Raises:
        Exception: One of BAD_DATA_ERRORS, if the first frame is damaged.
    """
    image.load()
    if image.format not in _ANIMATED_FORMATS or not _is_animated(image) or not _is_blank(image):
        return
    try:
        for number in range(1, _MAX_BLANK_FRAMES):
            image.seek(number)
            image.load()
            if not _is_blank(image):
                return
    except BAD_DATA_ERRORS:
        pass
    image.seek(0)
    image.load()


def _is_animated(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except BAD_DATA_ERRORS:
        return False


def _is_blank(image: Image.Image) -> bool:
    # Pairs of the least and the greatest value: one for each band, or the one of the only band.
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    if "A" in image.getbands() and bands[-1][1] == 0:
        return True
    return all(low == high for low, high in bands)
