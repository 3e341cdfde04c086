"""Which files are pictures: a static table, so that a scan needs no imaging library."""

from __future__ import annotations

EXTENSIONS_BY_FORMAT: dict[str, frozenset[bytes]] = {
    "AVIF": frozenset({b"avif", b"avifs"}),
    "BLP": frozenset({b"blp"}),
    "BMP": frozenset({b"bmp"}),
    "CUR": frozenset({b"cur"}),
    "DCX": frozenset({b"dcx"}),
    "DDS": frozenset({b"dds"}),
    "DIB": frozenset({b"dib"}),
    "FITS": frozenset({b"fit", b"fits"}),
    "FLI": frozenset({b"fli", b"flc"}),
    "FTEX": frozenset({b"ftc", b"ftu"}),
    "GBR": frozenset({b"gbr"}),
    "GIF": frozenset({b"gif"}),
    "HEIF": frozenset({b"heic", b"heics", b"heif", b"heifs", b"hif"}),
    "ICNS": frozenset({b"icns"}),
    "ICO": frozenset({b"ico"}),
    "IM": frozenset({b"im"}),
    "JPEG": frozenset({b"jfif", b"jpe", b"jpg", b"jpeg"}),
    "JPEG2000": frozenset({b"jp2", b"j2k", b"jpc", b"jpf", b"jpx", b"j2c"}),
    "JXL": frozenset({b"jxl"}),
    "MPO": frozenset({b"mpo"}),
    "MSP": frozenset({b"msp"}),
    "PCD": frozenset({b"pcd"}),
    "PCX": frozenset({b"pcx"}),
    "PIXAR": frozenset({b"pxr"}),
    "PNG": frozenset({b"png", b"apng"}),
    "PPM": frozenset({b"pbm", b"pgm", b"ppm", b"pnm", b"pfm"}),
    "PSD": frozenset({b"psd"}),
    "QOI": frozenset({b"qoi"}),
    "SGI": frozenset({b"bw", b"rgb", b"rgba", b"sgi"}),
    "SUN": frozenset({b"ras"}),
    "TGA": frozenset({b"tga", b"icb", b"vda", b"vst"}),
    "TIFF": frozenset({b"tif", b"tiff"}),
    "WEBP": frozenset({b"webp"}),
    "XBM": frozenset({b"xbm"}),
    "XPM": frozenset({b"xpm"}),
}
"""Pillow's name of every format that is opened, with its file name extensions in lower case."""

RAW_EXTENSIONS: frozenset[bytes] = frozenset(
    {
        *(b"3fr", b"fff"),  # Hasselblad
        *(b"arw", b"sr2", b"srf"),  # Sony
        *(b"cap", b"iiq"),  # Phase One
        *(b"cr2", b"cr3", b"crw"),  # Canon
        *(b"dcr", b"dcs", b"drf", b"k25", b"kc2", b"kdc"),  # Kodak
        *(b"dng", b"gpr"),  # Adobe, many cameras and telephones; GoPro
        *(b"bay", b"bmq", b"cs1", b"mdc", b"mef", b"mfw", b"mos", b"pxn", b"sti"),  # Mamiya, others
        *(b"erf", b"mrw", b"orf", b"ori"),  # Epson, Minolta, Olympus
        *(b"nef", b"nrw"),  # Nikon
        *(b"pef", b"ptx"),  # Pentax
        *(b"raf", b"raw", b"rw2", b"rwl"),  # Fujifilm, Panasonic, Leica
        *(b"srw", b"x3f"),  # Samsung, Sigma
    }
)
"""File name extensions of cameras' RAW files that LibRaw reads: lower case, without the dot."""

DENIED_FORMATS: dict[str, str] = {
    "BUFR": "a stub: recognised by Pillow, never decoded",
    "EPS": "starts Ghostscript",
    "GRIB": "a stub: recognised by Pillow, never decoded",
    "HDF5": "a stub: recognised by Pillow, never decoded",
    "IMT": "an obsolete format without extension that almost any text can resemble",
    "IPTC": "opens its content anew as any format, the denied ones included",
    "MCIDAS": "an obsolete format without extension",
    "MPEG": "a video: recognised by Pillow, never decoded",
    "PALM": "written by Pillow, not read",
    "PDF": "a document: written by Pillow, not read",
    "SPIDER": "has no signature, so that any data of the right size is taken for a picture",
    "WMF": "drawn by the operating system on Windows, a stub elsewhere",
    "XVTHUMB": "thumbnails that another program keeps beside pictures",
}
"""Formats that Pillow registers and that are not opened, each with its reason."""

# Pillow tries formats in the given order. The common ones come first because naming one that is
# not loaded yet makes Pillow import all of its plugins; those with a weak signature come last.
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF")
_WEAK_SIGNATURE = ("PCD", "IM", "TGA")

OPENED_CONTAINER_FORMATS: tuple[str, ...] = ("HEIF", "AVIF")
"""What Image.open may try on an ISO base media file ("ftyp"), in this order."""

OPENED_JXL_FORMATS: tuple[str, ...] = ("JXL",)
"""What Image.open may try on JPEG XL."""

OPENED_FORMATS: tuple[str, ...] = (
    *_COMMON,
    *sorted(
        set(EXTENSIONS_BY_FORMAT)
        # Pillow's JPEG opener recognises MPO by itself; "MPO" is no opener of its own.
        - {*_COMMON, *_WEAK_SIGNATURE, *OPENED_CONTAINER_FORMATS, *OPENED_JXL_FORMATS, "MPO"}
    ),
    *_WEAK_SIGNATURE,
)
"""What Image.open may try on any other file, in this order."""

PICTURE_EXTENSIONS: frozenset[bytes] = frozenset().union(*EXTENSIONS_BY_FORMAT.values())
"""File name extensions of pictures, RAW files aside: lower case, without the dot."""

SIGNATURE_BYTES = 32
"""How much of a file's beginning `sniff_format` and `describe_other` look at."""

_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)


def has_picture_extension(name: bytes) -> bool | None:
    """Tell whether a file's name says that it is a picture; `is_raw_name` knows of RAW files.

    Args:
        name: File name without its folder.

    Returns:
        None when the name has no extension at all, so that only the content can tell.
    """
    _, dot, extension = name.rpartition(b".")
    if not dot:
        return None
    return extension.lower() in PICTURE_EXTENSIONS


def is_raw_name(name: bytes) -> bool:
    """Tell whether a file's name says that it is a camera's RAW.

    Args:
        name: File name, with or without its folder.
    """
    _, dot, extension = name.rpartition(b".")
    return bool(dot) and extension.lower() in RAW_EXTENSIONS


def is_container(head: bytes) -> bool:
    """Tell whether a file is an ISO base media file, which holds HEIF, AVIF or a video."""
    return head[4:8] == b"ftyp"


def sniff_format(head: bytes) -> str | None:
    """Name the common picture format that a file's first bytes announce.

    Args:
        head: The first SIGNATURE_BYTES bytes, or all when there are fewer.

    Returns:
        Pillow's name of the format; None for anything else, rare picture formats included.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if is_container(head):
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIF" if brand in _HEIF_BRANDS else None
    if head.startswith((b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a")):
        return "JXL"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0")):
        return "JPEG2000"
    if head.startswith(b"8BPS\0\x01"):
        return "PSD"
    # "BM" alone begins many a text; a bitmap's two reserved words are zero.
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "BMP"
    return None


def describe_other(head: bytes) -> str | None:
    """Say in a few words what a file is that people take for a picture and that is none.

    Args:
        head: The first SIGNATURE_BYTES bytes, or all when there are fewer.
    """
    if head.startswith(b"%PDF"):
        return "a PDF document, not a picture"
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "a PostScript program, which is not run"
    if head.lstrip()[:4].lower() in (b"<svg", b"<?xm", b"<!do", b"<htm"):
        return "markup (an SVG drawing or a web page), not a picture"
    if (is_container(head) and sniff_format(head) is None) or (
        head.startswith(b"RIFF") and head[8:12] == b"AVI "
    ):
        return "a video, not a picture"
    return None
