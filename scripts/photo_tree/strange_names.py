"""Names that people, telephones and other systems really give, as far as the disk takes them."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TYPE_CHECKING

from photo_tree import shots

if TYPE_CHECKING:
    from photo_tree.tree import Tree

_FOLDER = "Names"

_ANYWHERE = (
    "Ferien am Meer \U0001f3d6\ufe0f\U0001f468\u200d\U0001f469\u200d\U0001f467.jpg",
    "שלום עולם.jpg",
    "صورة جميلة.jpg",
    "日本語の写真.JPG",
    "İstanbul ıŞİĞ.jpg",
    "straße STRASSE.jpg",
    "100% [draft] {1} (final) & more; $HOME `x` ~ #1 !.jpg",
    "-rf.jpg",
    "--help.jpg",
    "%s%n %41.jpg",
    "comma, semicolon; 'quotes'.jpg",
    "two..dots.jpg",
    " leading space.jpg",
    "several  spaces.jpg",
    "no break\u00a0space.jpg",
    "zero\u200bwidth.jpg",
    "turned \u202egpj.exe.jpg",
    "x" * 251 + ".jpg",
)

# Windows has no such names.
_ON_UNIX = (
    "new\nline.jpg",
    "tab\there.jpg",
    "bell\a and escape \x1b[31mred.jpg",
    'star * question ? "quoted" <less> |pipe| colon:.jpg',
    "back\\slash.jpg",
    "trailing space .jpg ",
    "CON.jpg",
    "写" * 83 + ".jpg",
)

# Bytes that are no UTF-8; only Linux keeps them.
_ON_LINUX = (b"latin1-\xe9t\xe9.jpg", b"\xff\xfe.jpg", b"shift-jis-\x8e\xca\x90^.jpg")

_DEEP_FOLDERS = 12


def strange_names(tree: Tree) -> None:
    """Add a picture under each name, and twins that only some file systems keep apart."""
    names = [*_ANYWHERE, *_ON_UNIX, *map(os.fsdecode, _ON_LINUX)]
    for name in names:
        if not tree.takes(name):
            tree.truth.not_made[ascii(name)] = "the file system takes no such name"
        elif name.endswith(" "):
            tree.ignored(f"{_FOLDER}/{name}", "no picture's extension")
        else:
            made = shots.shot(tree)
            tree.picture(f"{_FOLDER}/{name}", made.content, facts=made.facts)
    composed = unicodedata.normalize("NFC", "Café Ångström.jpg")
    _twins(tree, composed, unicodedata.normalize("NFD", composed))
    _twins(tree, "case.jpg", "CASE.JPG")
    _twins(tree, "Straße.jpg", "STRASSE.jpg")
    _twins(tree, "folder/inside.jpg", "FOLDER/inside.jpg")
    if sys.platform != "win32":  # a path of 260 characters is not for everyone there
        made = shots.plain(tree)
        deep = "/".join(f"{number:02} {'deep ' * 10}" for number in range(_DEEP_FOLDERS))
        tree.picture(f"{_FOLDER}/{deep}/down here.jpg", made.content, facts=made.facts)


def _twins(tree: Tree, one: str, other: str) -> None:
    """Add two pictures where the names are two, the first alone elsewhere."""
    are_two = tree.keeps_apart(one.partition("/")[0], other.partition("/")[0])
    if not are_two:
        tree.truth.not_made[ascii(other)] = f"one with {one!a} on this file system"
    for name in (one, other) if are_two else (one,):
        made = shots.shot(tree)
        tree.picture(f"{_FOLDER}/twins/{name}", made.content, facts=made.facts)
