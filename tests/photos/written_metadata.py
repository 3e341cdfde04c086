"""Metadata as cameras and editors write them, for the tests that read them."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any

from photos.drawn_pictures import quarters
from PIL import ExifTags, Image

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
}


def xmp_packet(attributes: str = "", elements: str = "", before: str = "") -> bytes:
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{before}'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/" {spaces}><rdf:RDF>'
        f'<rdf:Description rdf:about="" {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def xmp_list(name: str, values: Sequence[str], kind: str = "Bag") -> str:
    items = "".join(f"<rdf:li>{value}</rdf:li>" for value in values)
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


def iptc_block(sets: Sequence[tuple[int, int, bytes]]) -> bytes:
    return b"".join(
        bytes((0x1C, record, number)) + struct.pack(">H", len(value)) + value
        for record, number, value in sets
    )


def jpeg_with(
    *,
    capture: dict[int, Any] | None = None,
    main: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    iptc: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    exif = Image.Exif()
    exif.update(main or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(capture or {})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    target = BytesIO()
    options = {} if xmp is None else {"xmp": xmp}
    quarters().save(target, "JPEG", exif=exif, **options)
    content = target.getvalue()
    if iptc is not None:
        resource = b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(iptc))
        block = b"Photoshop 3.0\0" + resource + iptc + b"\0" * (len(iptc) % 2)
        content = (
            content[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + content[2:]
        )
    return content
