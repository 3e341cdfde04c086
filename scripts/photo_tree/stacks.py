"""Files that belong together, and those that only look so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from photo_tree import drawing, shots

if TYPE_CHECKING:
    from photo_tree.tree import Tree

_FOLDER = "Stacks"
_RAW_FACTS = {"width": drawing.SIZE[0], "height": drawing.SIZE[1], "format": "DNG"}


def stacks(tree: Tree) -> None:
    """Add RAWs, films and sidecars in each relation to a picture that there is."""
    random = tree.random

    def picture(name: str, **changes: Any) -> str:
        ending = name.rpartition(".")[2].upper()
        made = shots.shot(tree, {"HEIC": "HEIF", "PNG": "PNG"}.get(ending, "JPEG"))
        return tree.picture(f"{_FOLDER}/{name}", made.content, facts=made.facts | changes)

    def raw_alone(name: str, *of: str) -> None:
        content = drawing.dng(random)
        tree.picture(f"{_FOLDER}/{name}", content, needs="raw", facts=_RAW_FACTS, of=of)

    def raw(name: str, *of: str) -> None:
        tree.companion(f"{_FOLDER}/{name}", drawing.dng(random), "raw", *of)

    def film(name: str, *of: str) -> None:
        tree.companion(f"{_FOLDER}/{name}", drawing.film(random), "live-video", *of)

    everything = picture("all.HEIC")
    film("all.MOV", everything)
    raw("all.DNG", everything)
    raw("mixed.DNG", picture("mixed.jpg"))
    raw("CASE.dng", picture("case.JPG"))
    made = shots.sidecar(tree)
    dotted = picture("v1.2 final.jpg", **made.facts)
    tree.companion(f"{_FOLDER}/v1.2 final.xmp", made.content, "sidecar", dotted)
    upper = picture("UPPER.JPG", **made.facts)
    tree.companion(f"{_FOLDER}/UPPER.XMP", made.content, "sidecar", upper)
    tree.companion(f"{_FOLDER}/no xmp.xmp", b"<html>", "sidecar", picture("no xmp.jpg"))
    tree.companion(f"{_FOLDER}/hollow.xmp", b"", "sidecar", picture("hollow.jpg"))

    # Two pictures of one stem: the JPEG has the RAW and the film, and both the sidecar.
    jpeg, heic = picture("both.JPG", **made.facts), picture("both.HEIC", **made.facts)
    raw("both.DNG", jpeg)
    film("both.MOV", jpeg)
    tree.companion(f"{_FOLDER}/both.xmp", made.content, "sidecar", jpeg, heic)

    # The sidecar of the very file counts for more than that of its stem.
    own = shots.xmp_packet('xmp:Rating="5"')
    rated = picture("rated.JPG", rating=5)
    tree.companion(f"{_FOLDER}/rated.xmp", shots.xmp_packet('xmp:Rating="1"'), "sidecar", rated)
    tree.companion(f"{_FOLDER}/rated.JPG.xmp", own, "sidecar", rated)

    # A time in a sidecar counts for more than one in the name.
    name = f"{_FOLDER}/IMG_20140101_000000"
    facts = {"taken_at": "2015-06-07T08:09:10+02:00", "taken_source": "sidecar"}
    dated = tree.picture(f"{name}.jpg", drawing.jpeg(random), facts=facts)
    packet = shots.xmp_packet('exif:DateTimeOriginal="2015-06-07T08:09:10+02:00"')
    tree.companion(f"{name}.xmp", packet, "sidecar", dated)

    # Another folder, another number, no picture.
    picture("elsewhere/apart.JPG")
    raw_alone("raw/apart.DNG")
    picture("number 1.JPG")
    raw_alone("number 10.DNG")
    tree.ignored(f"{_FOLDER}/lonely.xmp", "no picture of its name", made.content)
    tree.ignored(f"{_FOLDER}/lonely.MOV", "no picture of its name", drawing.film(random))
    tree.ignored(f"{_FOLDER}/film.MTS", "a film")
    tree.ignored(f"{_FOLDER}/film.MTS.xmp", "a film's sidecar", made.content)
    tree.ignored(f"{_FOLDER}/all.AAE", "Apple's sidecar", b"<?xml version='1.0'?><plist/>")
    tree.ignored(f"{_FOLDER}/mixed.txt", "text beside a picture")

    # Nothing may be lost: where the camera's own JPEG is broken, the RAW is the picture.
    whole = drawing.jpeg(random, (256, 192))
    half = whole[: len(whole) // 2]
    raw_alone("broken.DNG", tree.failed(f"{_FOLDER}/broken.JPG", half, reason="truncated"))
