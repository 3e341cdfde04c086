"""What a tree has once: broken files, links, folders of programs, rules, copies."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from photo_tree import drawing, shots
from photo_tree.placeholder_marks import OPENVFS_STATE, placeholder_marks
from photo_tree.tree import content_hash

if TYPE_CHECKING:
    from pathlib import Path

    from photo_tree.tree import Tree

_LOCKED_FOLDER = "Special/locked"
"""A folder that may not be listed, where the user is one for whom that can be."""

_NO_PERMISSION = "ermission"

_NOT_MADE = dict.fromkeys(
    ("CR2", "CR3", "RAF", "ORF", "RW2", "ARW", "X3F", "IIQ"),
    "its sensor's data is laid out as only the maker knows",
)


def add_all(tree: Tree, elsewhere: Path) -> None:
    """Add everything.

    Args:
        tree: The tree.
        elsewhere: A folder outside it, not made yet, to which a link in it leads.
    """
    tree.truth.not_made |= _NOT_MADE
    bad_pictures(tree)
    folders_of_programs(tree)
    placeholders(tree)
    ignore_files(tree)
    links(tree, elsewhere)
    special_files(tree)
    copies(tree)


def bad_pictures(tree: Tree) -> None:
    """Files that claim to be pictures."""
    random = tree.random
    whole = drawing.jpeg(random, (256, 192))
    tree.failed("Bad/empty.jpg", b"", reason="empty")
    tree.failed("Bad/empty.heic", b"", reason="empty")
    tree.failed("Bad/half.jpg", whole[: len(whole) // 2], reason="truncated")
    tree.failed("Bad/head.jpg", whole[:20], reason="")
    tree.failed("Bad/text.jpg", b"not a picture at all", reason="not a picture")
    tree.failed("Bad/page.png", b"<!doctype html><p>404</p>", reason="web page")
    tree.failed("Bad/document.jpg", b"%PDF-1.7\n", reason="PDF")
    tree.failed("Bad/film.jpg", drawing.film(random), reason="video")
    tree.failed("Bad/bomb.png", drawing.png_claiming(60_000, 60_000), reason="pixels")
    png = drawing.encoded(drawing.colours(random), "PNG")
    tree.failed("Bad/half.png", png[: len(png) // 2], reason="")
    heic = drawing.heic(random)
    tree.failed("Bad/half.heic", heic[: len(heic) // 2], reason="")
    tree.failed("Bad/zeros.jpg", bytes(5000), reason="not a picture")
    tree.failed("Bad/noise.gif", random.bytes(300), reason="not a picture")
    tree.failed("Bad/raw noise.cr2", random.bytes(3000), reason="", needs="raw")
    raw = drawing.dng(random)
    tree.failed("Bad/half a raw.dng", raw[: len(raw) // 2], reason="", needs="raw")


def folders_of_programs(tree: Tree) -> None:
    """Thumbnails and internals in folders that programs keep, and the originals among them."""
    random = tree.random

    def internal(path: str, why: str) -> None:
        tree.left_out(path, drawing.jpeg(random, (32, 24)), why)

    def original(path: str) -> None:
        made = shots.shot(tree)
        tree.picture(path, made.content, facts=made.facts)

    for name in (".thumbnails", ".Trashes", ".Trash-1000", ".git"):
        internal(f"Programs/{name}/inside.jpg", "hidden")
    internal("Programs/.hidden.jpg", "hidden")
    internal("Programs/.hidden/deeper/inside.jpg", "hidden")
    internal("Programs/$RECYCLE.BIN/S-1-5-21/$RA1B2C3.jpg", "$RECYCLE.BIN")
    internal("Programs/@eaDir/album/SYNOPHOTO_THUMB_XL.jpg", "@eaDir")
    for name in ("#recycle", "lost+found", "System Volume Information", "__MACOSX"):
        internal(f"Programs/{name}/inside.jpg", "a system's or a NAS's own folder")
    for name in ("Photos Library.photoslibrary", "Fotos-Mediathek.photoslibrary"):
        library = f"Programs/{name}"
        original(f"{library}/originals/0/0A1B2C3D.jpeg")
        original(f"{library}/originals/F/F0000000.jpeg")
        internal(f"{library}/resources/derivatives/0/0A1B2C3D_1_105_c.jpeg", "derivative")
        internal(f"{library}/resources/renders/0/0A1B2C3D_1_201_a.jpeg", "derivative")
        internal(f"{library}/scopes/cloudsharing/data/1.jpeg", "internal")
        tree.left_out(f"{library}/database/Photos.sqlite", b"SQLite format 3\0", "internal")
    older = "Programs/Old.photoslibrary"
    original(f"{older}/Masters/2014/05/01/IMG_0001.JPG")
    internal(f"{older}/Thumbnails/2014/05/01/IMG_0001.jpg", "derivative")
    lightroom = "Programs/Lightroom"
    internal(f"{lightroom}/Catalog Previews.lrdata/0/0A/preview.jpg", "Lightroom's preview")
    tree.left_out(
        f"{lightroom}/Catalog Smart Previews.lrdata/0/0A/0A1B.dng", drawing.dng(random), "preview"
    )
    tree.ignored(f"{lightroom}/Catalog.lrcat", "Lightroom's catalogue", b"SQLite format 3\0")
    original(f"{lightroom}/2020/2020-01-01/IMG_1.jpg")
    original("Programs/Aperture.aplibrary/Masters/2010/IMG_0001.jpg")
    internal("Programs/Aperture.aplibrary/Previews/2010/IMG_0001.jpg", "derivative")
    # Names that only look like the above.
    original("Programs/eaDir/a.jpg")
    original("Programs/photoslibrary/resources/derivatives/b.jpg")
    original("Programs/thumbnails of cars/c.jpg")


def placeholders(tree: Tree) -> None:
    """Placeholders as the clients of this system leave them, as far as a program may make them."""
    folder = "Cloud/Odd"
    tree.online_only(f"{folder}/IMG_1.HEIC.nextcloud", b" ", "Nextcloud's stub")
    tree.online_only(f"{folder}/IMG_2.JPEG.owncloud", b" ", "ownCloud's stub")
    tree.online_only(f"{folder}/.IMG_3.HEIC.icloud", b"bplist00", "an older macOS's stub")
    tree.ignored(f"{folder}/letter.txt.nextcloud", "no picture", b" ")
    tree.ignored(f"{folder}/.letter.pages.icloud", "no picture", b"bplist00")
    made = shots.shot(tree)
    tree.picture(f"{folder}/IMG_4.jpg", made.content, facts=made.facts)
    tree.ignored(f"{folder}/IMG_4.jpg.nextcloud", "its picture is here", b" ")
    # Were one of these opened, it would be a picture like others: what is behind it is not looked
    # at, and what is missing there are holes.
    for number, mark in enumerate(placeholder_marks()):
        path = f"{folder}/marked {number}.jpg"
        content = drawing.jpeg(tree.random)
        tree.online_only(path, content, mark.__doc__ or "")
        os.truncate(tree.place(path), 1024 * 1024)
        try:
            mark(tree.place(path))
        except OSError:
            os.remove(tree.place(path))
            tree.truth.files.pop()
            tree.truth.not_made[path] = "the file system keeps no such mark"
    # A file with holes is a file all the same, and one that its client has filled is here.
    for name, state in (("with holes", b""), ("filled again", b"hydrated")):
        content = drawing.jpeg(tree.random) + bytes(100_000)
        path = tree.picture(f"{folder}/{name}.jpg", content)
        os.truncate(tree.place(path), len(content) - 100_000)
        os.truncate(tree.place(path), len(content))
        if state and sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setxattr(tree.place(path), OPENVFS_STATE, state)
    # The camera's JPEG is in the cloud, and its RAW is here.
    stub = tree.online_only(f"{folder}/IMG_5.JPG.nextcloud", b" ", "Nextcloud's stub")
    tree.picture(f"{folder}/IMG_5.DNG", drawing.dng(tree.random), needs="raw", of=(stub,))
    # And what belongs to a picture that only the cloud has.
    stub = tree.online_only(f"{folder}/IMG_6.HEIC.nextcloud", b" ", "Nextcloud's stub")
    tree.companion(f"{folder}/IMG_6.MOV", drawing.film(tree.random), "live-video", stub)
    if sys.platform == "darwin":
        tree.truth.not_made["dataless files"] = "macOS lets no program set that flag"


def ignore_files(tree: Tree) -> None:
    """What a .siglipignore file leaves out, and takes back in."""
    folder = "Rules"
    rules = b"*.gif\nprivate/\n!keep.gif\ndeep/**/secret.jpg\n"
    tree.left_out(f"{folder}/.siglipignore", rules, "hidden")
    gif = drawing.encoded(drawing.colours(tree.random), "GIF")
    tree.left_out(f"{folder}/a.gif", gif, "*.gif")
    tree.left_out(f"{folder}/sub/b.gif", gif, "*.gif")
    tree.picture(f"{folder}/keep.gif", drawing.encoded(drawing.colours(tree.random), "GIF"))
    tree.left_out(f"{folder}/private/c.jpg", drawing.jpeg(tree.random), "private/")
    tree.left_out(f"{folder}/deep/er/secret.jpg", drawing.jpeg(tree.random), "deep/**")
    tree.picture(f"{folder}/deep/er/open.jpg", drawing.jpeg(tree.random))
    # A RAW whose JPEG is left out is a picture itself.
    tree.left_out(f"{folder}/jpegs not wanted/.siglipignore", b"\xef\xbb\xbf*.jpg\r\n", "hidden")
    tree.left_out(f"{folder}/jpegs not wanted/1.jpg", drawing.jpeg(tree.random), "*.jpg")
    tree.picture(f"{folder}/jpegs not wanted/1.dng", drawing.dng(tree.random), needs="raw")
    tree.left_out(f"{folder}/defaults not wanted/.siglipignore", b"!@eaDir/\n", "hidden")
    tree.picture(f"{folder}/defaults not wanted/@eaDir/mine.jpg", drawing.jpeg(tree.random))
    nested = b"!private/\n"
    tree.left_out(f"{folder}/back/.siglipignore", nested, "hidden")
    tree.picture(f"{folder}/back/private/d.jpg", drawing.jpeg(tree.random))


def copies(tree: Tree) -> None:
    """One content under many names."""
    made = shots.shot(tree)
    first = tree.picture("Copies/original.jpg", made.content, facts=made.facts)
    for name in ("original (1).jpg", "original.jpeg", "backup/original.jpg", "without extension"):
        tree.picture(f"Copies/{name}", made.content, detail=f"a copy of {first}")
    if sys.platform != "win32":
        os.link(tree.place(first), tree.place("Copies/hard link.jpg"))
        content = content_hash(made.content)
        tree.note("Copies/hard link.jpg", "picture", "a hard link", content=content)
    # No copies: two pictures of one size in bytes.
    for number in (1, 2):
        bitmap = drawing.encoded(drawing.colours(tree.random), "BMP")
        tree.picture(f"Copies/same size {number}.bmp", bitmap)


def links(tree: Tree, elsewhere: Path) -> None:
    """Symbolic links, where they can be made."""
    made = shots.shot(tree)
    tree.picture("Links/target.jpg", made.content, facts=made.facts)
    try:
        tree.link("Links/to nowhere.jpg", "nothing.jpg")
    except OSError:
        tree.truth.not_made["links"] = "the system makes none here"
        return
    content = content_hash(made.content)
    tree.link("Links/to a picture.jpg", "target.jpg", fate="picture", content=content)
    tree.link("Links/to nowhere", "nothing at all")
    tree.link("Links/to itself.jpg", "to itself.jpg")
    tree.link("Links/target.xmp", "no sidecar")
    tree.link("Links/to a folder", "../Formats")
    tree.link("Links/to the top", "..")
    tree.link("Links/to text.txt", "../Bad/text.jpg", fate="ignored", detail="a name of text")
    tree.link("Links/to a broken one.jpg", "../Bad/text.jpg", fate="failed", detail="not a picture")
    elsewhere.mkdir()
    content = drawing.jpeg(tree.random)
    (elsewhere / "there.jpg").write_bytes(content)
    os.symlink(f"../../{elsewhere.name}", tree.place("Links/out of the tree"))
    found = "Links/out of the tree/there.jpg"
    tree.note(found, "picture", "through a link", content=content_hash(content))


def special_files(tree: Tree) -> None:
    """What is no regular file, may not be read, or lies at the very top."""
    made = shots.shot(tree)
    top = tree.picture("at the top.jpg", made.content, facts=made.facts | {"rating": 4})
    tree.companion("at the top.xmp", shots.xmp_packet('xmp:Rating="4"'), "sidecar", top)
    made = shots.plain(tree)
    tree.picture("Special/album.jpg/inside.jpg", made.content, facts=made.facts)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tree.place("Special/pipe.jpg"))
        tree.note("Special/pipe.jpg", "ignored", "a named pipe")
        for ending in ("MOV", "xmp", "DNG"):
            os.mkfifo(tree.place(f"Special/beside.{ending}"))
            tree.note(f"Special/beside.{ending}", "ignored", "a named pipe beside a picture")
        made = shots.shot(tree)
        tree.picture("Special/beside.JPG", made.content, facts=made.facts)
    locked = tree.failed("Special/locked.jpg", drawing.jpeg(tree.random), reason=_NO_PERMISSION)
    os.chmod(tree.place(locked), 0)
    try:
        with open(tree.place(locked), "rb"):
            tree.truth.not_made["locked files"] = "nothing is locked for this user, or here"
        os.chmod(tree.place(locked), 0o600)
        os.remove(tree.place(locked))
        tree.truth.files.pop()
    except PermissionError:
        inside = tree.write(f"{_LOCKED_FOLDER}/inside.jpg", drawing.jpeg(tree.random), "unseen")
        os.chmod(os.path.dirname(tree.place(inside)), 0)
