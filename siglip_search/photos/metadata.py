"""What a picture says of itself in EXIF, IPTC and XMP, made one.

Each field comes from the first that has it. Capture time: EXIF, IPTC, XMP, as the Metadata Working
Group has it. What the camera measured (camera, lens, exposure, position): EXIF, XMP. The title:
XMP, which has no limit of 64 bytes, then IPTC. Keywords: those of XMP and IPTC together, for a
search loses by a missing one more than by a stale one. The rating is XMP's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO

from PIL import Image

from siglip_index.records import PhotoFacts
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.exif import PictureExif, read_exif
from siglip_search.photos.metadata_iptc import IptcFields, read_iptc
from siglip_search.photos.metadata_values import clean_keywords
from siglip_search.photos.metadata_xmp import XmpFields, read_xmp

# Raised when a later version reads more, or otherwise: pictures of a lower one are read again.
METADATA_VERSION = 1

_CAMERA_FIELDS = (
    "camera",
    "lens",
    "exposure_seconds",
    "f_number",
    "iso",
    "focal_length_mm",
)
_PLACE_FIELDS = ("latitude", "longitude", "altitude_m")
_NO_IPTC = IptcFields()
_NO_XMP = XmpFields()

# TIFF tag 700, "XMLPacket" (XMP specification, part 3).
_TIFF_XMP = 0x02BC


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """A picture's metadata; the fields are those of `siglip_index.records.PhotoFacts`.

    Attributes:
        orientation: How the stored pixels must be turned, as in `PictureExif`.
    """

    orientation: int = 1
    taken_at: str | None = None
    taken_source: str | None = None
    camera: str | None = None
    lens: str | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    rating: int | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()

    def facts(self, width: int, height: int, picture_format: str) -> PhotoFacts:
        """Return the facts of a picture of this upright size and format."""
        return PhotoFacts(
            width=width,
            height=height,
            format=picture_format,
            taken_at=self.taken_at,
            camera=self.camera,
            latitude=self.latitude,
            longitude=self.longitude,
            taken_source=self.taken_source,
            lens=self.lens,
            exposure_seconds=self.exposure_seconds,
            f_number=self.f_number,
            iso=self.iso,
            focal_length_mm=self.focal_length_mm,
            altitude_m=self.altitude_m,
            rating=self.rating,
            title=self.title,
            keywords=self.keywords,
            metadata_version=METADATA_VERSION,
        )


def read_metadata(image: Image.Image) -> PictureMetadata:
    """Read a picture's metadata; what is missing, damaged or impossible is left out.

    Args:
        image: An opened picture, loaded: some formats keep metadata behind the pixels.
    """
    packet = image.info.get("xmp")
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    return merged(
        read_exif(image),
        read_iptc(image),
        (read_xmp(packet) if isinstance(packet, bytes) else None) or _NO_XMP,
    )


def read_raw_metadata(file: BinaryIO, exif: PictureExif) -> PictureMetadata:
    """Return the metadata of a camera's RAW: its EXIF data, and the XMP of one that is a TIFF.

    Args:
        file: Open for reading; its position changes.
        exif: What is known already, from the file's own directories or from its preview.
    """
    directories = Image.Exif()
    try:
        file.seek(0)
        directories.load_from_fp(file)
        packet = directories.get(_TIFF_XMP)
    except BAD_DATA_ERRORS:
        packet = None
    xmp = read_xmp(packet) if isinstance(packet, bytes) else None
    return merged(exif, xmp=xmp or _NO_XMP)


def merged(
    exif: PictureExif, iptc: IptcFields = _NO_IPTC, xmp: XmpFields = _NO_XMP
) -> PictureMetadata:
    """Return the metadata of a picture of which these three are known."""
    taken_at, taken_source = next(
        (
            (taken_at, source)
            for taken_at, source in (
                (exif.taken_at, "exif"),
                (iptc.taken_at, "iptc"),
                (xmp.taken_at, "xmp"),
            )
            if taken_at is not None
        ),
        (None, None),
    )
    # A place is one thing: never the latitude of one and the longitude of another.
    placed = exif if exif.latitude is not None or xmp.latitude is None else xmp
    return PictureMetadata(
        orientation=exif.orientation,
        taken_at=taken_at,
        taken_source=taken_source,
        camera=exif.camera or xmp.camera,
        lens=exif.lens or xmp.lens,
        exposure_seconds=exif.exposure_seconds or xmp.exposure_seconds,
        f_number=exif.f_number or xmp.f_number,
        iso=exif.iso or xmp.iso,
        focal_length_mm=exif.focal_length_mm or xmp.focal_length_mm,
        latitude=placed.latitude,
        longitude=placed.longitude,
        altitude_m=placed.altitude_m,
        rating=xmp.rating,
        title=xmp.title or iptc.title,
        keywords=clean_keywords((*xmp.keywords, *iptc.keywords)),
    )


def with_sidecar(facts: PhotoFacts, sidecar: XmpFields) -> PhotoFacts:
    """Return a picture's facts with what its sidecar says.

    Rating, title, keywords and place are what people edit, and programs write them into the
    sidecar alone: the sidecar's count where it has any. So does its capture time where the picture
    has none of its own, or one that is only guessed from the file's name. What the camera measured
    stays, and is filled in where it is missing.
    """
    changes: dict[str, object] = {
        name: getattr(sidecar, name)
        for name in _CAMERA_FIELDS
        if getattr(facts, name) is None and getattr(sidecar, name) is not None
    }
    if sidecar.rating is not None:
        changes["rating"] = sidecar.rating
    if sidecar.title is not None:
        changes["title"] = sidecar.title
    if sidecar.keywords:
        changes["keywords"] = sidecar.keywords
    if sidecar.latitude is not None:
        changes |= {name: getattr(sidecar, name) for name in _PLACE_FIELDS}
    if sidecar.taken_at is not None and facts.taken_source in (None, "file-name"):
        changes |= {"taken_at": sidecar.taken_at, "taken_source": "sidecar"}
    return replace(facts, **changes)  # type: ignore[arg-type]  # names and values of its fields
