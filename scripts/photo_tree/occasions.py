"""What fills a tree: folders as telephones, cameras, messengers, a NAS and a cloud leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from photo_tree import drawing, shots
from photo_tree.drawing import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from photo_tree.tree import Tree

_FILMED = "film"
_SHOTS_IN_A_FOLDER = 12


def fill(tree: Tree, files: int) -> None:
    """Add folders, each kind in turn, until the tree has so many files."""
    while len(tree) + _MOST_FILES_OF_AN_OCCASION <= files:
        occasion = _OCCASIONS[(tree.next_number("occasion") - 1) % len(_OCCASIONS)]
        occasion(tree)
    while len(tree) < files:
        number = tree.next_number("plain")
        made = shots.shot(tree) if number % 2 else shots.plain(tree)
        folder = f"Unsorted/{number // 500:03}"
        tree.picture(f"{folder}/picture {number}.jpg", made.content, facts=made.facts)


def telephone(tree: Tree) -> None:
    """HEIC with and without the film of a Live Photo, edits with their AAE, screenshots."""
    folder = f"Phone/DCIM/{99 + tree.next_number('phone')}APPLE"
    for number in range(1, _SHOTS_IN_A_FOLDER + 1):
        name = f"{folder}/IMG_{number:04}"
        kind = tree.random.random()
        if kind < 0.4:
            made = shots.shot(tree, "HEIF")
            tree.picture(f"{name}.HEIC", made.content, facts=made.facts)
            suffix = ".MOV" if tree.chance(0.8) else ".mov"
            tree.companion(name + suffix, drawing.film(tree.random), "live-video", f"{name}.HEIC")
        elif kind < 0.6:
            made = shots.shot(tree, "HEIF")
            tree.picture(f"{name}.HEIC", made.content, facts=made.facts)
            edited = shots.shot(tree)
            tree.ignored(f"{name}.AAE", "Apple's sidecar", b"<?xml version='1.0'?><plist/>")
            tree.picture(f"{folder}/IMG_E{number:04}.JPG", edited.content, facts=edited.facts)
        elif kind < 0.7:
            made = shots.shot(tree)
            tree.picture(f"{name}.JPG", made.content, facts=made.facts)
            tree.companion(f"{name}.MOV", drawing.film(tree.random), "live-video", f"{name}.JPG")
        elif kind < 0.8:
            tree.ignored(f"{name}.MOV", _FILMED, drawing.film(tree.random, 60))
        elif kind < 0.9:
            moment = shots.moment_of(tree)
            taken = {"taken_at": moment.isoformat(), "taken_source": "file-name"}
            facts = {"width": SIZE[0], "height": SIZE[1], "format": "PNG", **taken}
            content = drawing.encoded(drawing.colours(tree.random), "PNG")
            day = moment.strftime("%Y-%m-%d-%H-%M-%S")
            tree.picture(f"{folder}/Screenshot_{day}_{number}.png", content, facts=facts)
        else:
            made = shots.shot(tree)
            tree.picture(f"{name}.JPG", made.content, facts=made.facts)


def camera(tree: Tree) -> None:
    """RAW+JPEG, RAW alone, sidecars of either, films and their thumbnails."""
    folder = f"Camera/{tree.next_number('camera'):03}EOSR5"
    for number in range(1, _SHOTS_IN_A_FOLDER + 1):
        name = f"{folder}/DSC_{number:04}"
        kind = tree.random.random()
        if kind < 0.4:
            made = shots.shot(tree)
            facts = dict(made.facts)
            sidecar = shots.sidecar(tree) if tree.chance(0.3) else None
            if sidecar is not None:
                facts |= sidecar.facts
            tree.picture(f"{name}.JPG", made.content, facts=facts)
            tree.companion(f"{name}.DNG", drawing.dng(tree.random), "raw", f"{name}.JPG")
            if sidecar is not None:
                ending = tree.choose((".xmp", ".JPG.xmp", ".DNG.xmp"))
                tree.companion(name + ending, sidecar.content, "sidecar", f"{name}.JPG")
        elif kind < 0.65:
            orientation = int(tree.choose((1, 3, 6, 8)))
            content = drawing.dng(tree.random, orientation=orientation)
            facts = {"width": SIZE[0], "height": SIZE[1], "format": "DNG"}
            sidecar = shots.sidecar(tree) if tree.chance(0.5) else None
            if sidecar is not None:
                facts |= sidecar.facts
            tree.picture(f"{name}.DNG", content, needs="raw", facts=facts)
            if sidecar is not None:
                ending = tree.choose((".xmp", ".DNG.xmp"))
                tree.companion(
                    name + ending, sidecar.content, "sidecar", f"{name}.DNG", needs="raw"
                )
        elif kind < 0.75:
            tree.ignored(f"{name}.AVI", _FILMED, b"RIFF\0\0\0\0AVI ")
            tree.ignored(f"{name}.THM", "a film's thumbnail", drawing.jpeg(tree.random, (16, 12)))
        else:
            made = shots.tagged(tree) if tree.chance(0.5) else shots.shot(tree)
            tree.picture(f"{name}.JPG", made.content, facts=made.facts)


def backup(tree: Tree) -> None:
    """A second copy of a camera's card: RAW+JPEG with a sidecar, and RAW alone."""
    number = tree.next_number("backup")
    for shot_number in range(1, 4):
        made, sidecar = shots.shot(tree), shots.sidecar(tree)
        raw, raw_alone = drawing.dng(tree.random), drawing.dng(tree.random)
        for folder in (f"Backup/card {number}", f"Backup/card {number} (copy)"):
            name = f"{folder}/PIC{shot_number}"
            facts = made.facts | sidecar.facts
            jpeg = tree.picture(f"{name}.JPG", made.content, facts=facts)
            tree.companion(f"{name}.DNG", raw, "raw", jpeg)
            tree.companion(f"{name}.xmp", sidecar.content, "sidecar", jpeg)
            tree.picture(f"{folder}/RAW{shot_number}.DNG", raw_alone, needs="raw")


def messenger(tree: Tree) -> None:
    """Pictures dated by their names alone, films, and copies of pictures from elsewhere."""
    folder = f"Messenger/{tree.next_number('messenger'):03} Media"
    originals = []
    for number in range(_SHOTS_IN_A_FOLDER - 4):
        day = shots.moment_of(tree).date()
        facts = {"width": SIZE[0], "height": SIZE[1], "format": "JPEG"}
        facts |= {"taken_at": day.isoformat(), "taken_source": "file-name"}
        name = f"{folder}/IMG-{day:%Y%m%d}-WA{number:04}.jpg"
        tree.picture(name, drawing.jpeg(tree.random), facts=facts)
    for number in range(4):
        made = shots.shot(tree)
        name = f"{folder}/Forwarded {number}.jpeg"
        originals.append((tree.picture(name, made.content, facts=made.facts), made.content))
    for path, content in originals:
        copy = path.replace("/Forwarded", "/Sent/IMG-20200101-WA000")
        tree.picture(copy, content, detail=f"a copy of {path}")
    tree.picture(f"{folder}/Sent/again.jpg", originals[0][1], detail=f"a copy of {originals[0][0]}")
    tree.ignored(f"{folder}/VID-20200101-WA0001.mp4", _FILMED, drawing.film(tree.random))
    tree.ignored(f"{folder}/PTT-20200101-WA0001.opus", "sound")
    tree.left_out(f"{folder}/.nomedia", b"", "hidden")


def network_drive(tree: Tree) -> None:
    """Pictures among what Synology, Windows and macOS lay beside them."""
    folder = f"NAS/{2001 + tree.next_number('nas')} Holiday"
    for number in range(_SHOTS_IN_A_FOLDER - 4):
        made = shots.shot(tree) if tree.chance(0.7) else shots.tagged(tree)
        name = f"P10{number:05}.jpg"
        tree.picture(f"{folder}/{name}", made.content, facts=made.facts)
        thumbnail = drawing.jpeg(tree.random, (32, 24))
        tree.left_out(f"{folder}/@eaDir/{name}/SYNOPHOTO_THUMB_M.jpg", thumbnail, "@eaDir")
    tree.left_out(f"{folder}/._P1000000.jpg", b"\0\5\x16\7", "hidden")
    tree.left_out(f"{folder}/.DS_Store", b"\0\0\0\1Bud1", "hidden")
    tree.ignored(
        f"{folder}/Thumbs.db", "a database of thumbnails", b"\xd0\xcf\x11\xe0" + bytes(512)
    )
    tree.ignored(f"{folder}/desktop.ini", "settings", b"[.ShellClassInfo]\r\n")


def cloud(tree: Tree) -> None:
    """Pictures that are here, and placeholders of others, in the forms that any disk can hold."""
    folder = f"Cloud/Camera Uploads {tree.next_number('cloud')}"
    for number in range(_SHOTS_IN_A_FOLDER):
        name = f"{folder}/2020-05-{number + 1:02} 12.00.{number:02}.jpg"
        kind = tree.random.random()
        if kind < 0.5:
            made = shots.shot(tree)
            tree.picture(name, made.content, facts=made.facts)
        elif kind < 0.8:
            tree.online_only(f"{name}.nextcloud", b" ", "Nextcloud's stub")
        elif kind < 0.9:
            tree.online_only(f"{name}.owncloud", b" ", "ownCloud's stub")
        else:
            tree.ignored(f"{folder}/film {number}.mp4.nextcloud", "film of a cloud", b" ")


def downloads(tree: Tree) -> None:
    """What the web and editors give: AVIF, WebP, GIF, animated ones, PNG, drawings, documents."""
    folder = f"Downloads/{tree.next_number('downloads'):03}"
    random = tree.random
    for number, (picture_format, ending) in enumerate(
        (("AVIF", "avif"), ("WEBP", "webp"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"))
    ):
        content = drawing.encoded(drawing.colours(random), picture_format)
        facts = {"width": SIZE[0], "height": SIZE[1], "format": picture_format}
        tree.picture(f"{folder}/image{number}.{ending}", content, facts=facts)
    for picture_format in ("GIF", "WEBP"):
        frames = [drawing.colours(random) for _ in range(3)]
        content = drawing.encoded(
            frames[0], picture_format, save_all=True, append_images=frames[1:], duration=100
        )
        facts = {"width": SIZE[0], "height": SIZE[1], "format": picture_format}
        tree.picture(f"{folder}/animated.{picture_format.lower()}", content, facts=facts)
    made = shots.plain(tree)
    tree.picture(f"{folder}/no extension {tree.next_number('bare')}", made.content)
    wrong = drawing.encoded(drawing.colours(random), "PNG")
    tree.picture(f"{folder}/really a png.jpg", wrong, facts={"format": "PNG", "taken_at": None})
    tree.ignored(f"{folder}/drawing.svg", "a drawing", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    tree.ignored(f"{folder}/invoice.pdf", "a document", b"%PDF-1.7\n")
    tree.ignored(f"{folder}/README", "text without extension", b"nothing to see\n")
    whole = drawing.jpeg(random, (256, 192))
    tree.failed(f"{folder}/broken off.jpg", whole[: len(whole) // 2], reason="truncated")


_OCCASIONS: tuple[Callable[[Tree], None], ...] = (
    camera,
    telephone,
    messenger,
    network_drive,
    backup,
    camera,
    cloud,
    downloads,
)

_MOST_FILES_OF_AN_OCCASION = 3 * _SHOTS_IN_A_FOLDER
