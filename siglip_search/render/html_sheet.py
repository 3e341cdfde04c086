"""Answers as one HTML file that needs nothing else: thumbnails are in it, and link to the files."""

from __future__ import annotations

import base64
import io
from contextlib import closing
from html import escape
from typing import TYPE_CHECKING, BinaryIO, Final

from siglip_index.durable_files import write_durably
from siglip_search.photos.thumbnails import thumbnails
from siglip_search.render.contact_sheet import GENERATOR
from siglip_search.render.file_links import file_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from siglip_search.render.contact_sheet import SheetRow, Tile

THUMBNAIL: Final = 320
_JPEG_QUALITY: Final = 82

# No script may run and nothing be fetched, whatever stands in a file's name or its metadata.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fafaf8; --ink: #222; --faint: #6b6b6b; --tile: #e8e8e4 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #191919; --ink: #eee; --faint: #a5a5a5; --tile: #2a2a2a }
}
body { margin: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.4 system-ui, sans-serif }
h1 { font-size: 1rem; font-weight: normal; color: var(--faint) }
h2 { font-size: 1.4rem; margin: 1.5rem 0 .75rem; overflow-wrap: anywhere }
ol { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)) }
figure { margin: 0 }
.picture { display: flex; aspect-ratio: 1; background: var(--tile); border-radius: 4px }
.picture img { max-width: 100%; max-height: 100%; margin: auto; border-radius: 4px }
.picture span { margin: auto; color: var(--faint) }
figcaption { margin-top: .35rem; overflow-wrap: anywhere }
figcaption small { display: block; color: var(--faint) }
a { color: inherit; text-decoration: none }
a:hover { text-decoration: underline }
"""


def save_html_sheet(rows: Sequence[SheetRow], path: Path, *, title: str) -> int:
    """Write the rows to an HTML file; a former one is replaced once the new one is whole.

    Args:
        rows: From top to bottom.
        path: Where to write, such as sheet.html.
        title: Stands above everything.

    Returns:
        How many tiles were written: all.

    Raises:
        OSError: The file cannot be written.
        WorkerError: The decoding processes cannot be started.
    """
    paths = [tile.path for row in rows for tile in row.tiles]

    def write(file: BinaryIO) -> None:
        with closing(thumbnails(paths, (THUMBNAIL, THUMBNAIL))) as pictures:
            page = _page(rows, title, pictures)
            file.writelines(part.encode(errors="xmlcharrefreplace") for part in page)

    write_durably(path, write)
    return len(paths)


def _page(
    rows: Sequence[SheetRow], title: str, pictures: Iterator[Image.Image | None]
) -> Iterator[str]:
    yield (
        "<!DOCTYPE html>\n"
        f'<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{escape(GENERATOR)}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n"
    )
    for row in rows:
        yield f"<h2>{escape(row.heading)}</h2>\n"
        if not row.tiles:
            yield "<p>nothing matches</p>\n"
            continue
        yield "<ol>\n"
        for tile in row.tiles:
            yield _figure(tile, next(pictures))
        yield "</ol>\n"
    yield "</body>\n</html>\n"


def _figure(tile: Tile, thumbnail: Image.Image | None) -> str:
    words = tile.name or tile.caption
    link = f'<a href="{escape(file_url(tile.path))}"'
    if thumbnail is None:
        picture = "<span>cannot be shown</span>"
    else:
        picture = f'<img src="{_data_url(thumbnail)}" alt="{escape(words)}" loading="lazy">'
    name = f" {link}>{escape(tile.name)}</a>" if tile.name else ""
    details = "".join(f"<small>{escape(detail)}</small>" for detail in tile.details)
    return (
        f'<li><figure>{link} class="picture">{picture}</a>'
        f"<figcaption><b>{escape(tile.caption)}</b>{name}{details}</figcaption></figure></li>\n"
    )


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.standard_b64encode(file.getvalue()).decode()}"
