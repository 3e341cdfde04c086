"""What the store keeps and returns: plain, frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space: vectors of one space may be compared with one another.

    Attributes:
        key: Identity of the space, made by the caller from whatever defines it.
        dimension: Length of its vectors, > 0.
        model: Name of the model for people; two spaces may carry the same name.
    """

    key: str
    dimension: int
    model: str


@dataclass(frozen=True, slots=True)
class SpaceUsage:
    """How much a space holds.

    Attributes:
        space: The space.
        vectors: Of photos that are visible or not yet pruned.
        disk_bytes: About how much its vectors and its snapshot take.
    """

    space: Space
    vectors: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What one stat call tells about a file's content.

    Attributes:
        size: In bytes.
        mtime_ns: Last modification, nanoseconds since the epoch.
        inode: The file system's own number for the file, 0 where it has none.
    """

    size: int
    mtime_ns: int
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or one picture) whose content is in the library.

    Attributes:
        id: Row number.
        path: Absolute path as bytes, as the operating system gave it (os.fsencode).
        device: st_dev at the last complete scan; another value means another disk is there.
        volume: Identity of the file system, with a prefix that says of which kind; None where it
            has none that lasts.
        volume_path: Path of the root inside its volume, "/"-separated bytes.
        exclude: Patterns of files that the user does not want from this root.
    """

    id: int
    path: bytes
    device: int | None
    volume: str | None = None
    volume_path: bytes | None = None
    exclude: tuple[str, ...] = ()


CompanionKind = Literal["raw", "live-video", "sidecar"]


@dataclass(frozen=True, slots=True)
class Companion:
    """A file that belongs to a picture's file and has no content of its own in the library.

    Attributes:
        path: Relative to the root of the picture's file, "/"-separated bytes.
        kind: A RAW beside the camera's own JPEG, the film of a Live Photo, or an XMP sidecar.
        fingerprint: As of the time when it was last seen.
    """

    path: bytes
    kind: CompanionKind
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A path that the library remembers below one of its roots.

    Attributes:
        id: Row number.
        root_id: Root below which it lies.
        path: Relative to the root, "/"-separated bytes; empty when the root is itself a file.
        fingerprint: As of the time when the content was last read.
        photo_id: Content that it names, None when the file could not be read as a picture.
        failure: Reason why it is no picture, None when it is one.
        present: False after the file vanished; it is kept so that a reappearance is recognised.
        device: st_dev of the file when it was last seen.
        companions: Files that belong to it, by path.
    """

    id: int
    root_id: int
    path: bytes
    fingerprint: Fingerprint
    photo_id: int | None
    failure: str | None
    present: bool
    device: int | None = None
    companions: tuple[Companion, ...] = ()


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What is known of a content, whatever its files are called.

    Attributes:
        width: In pixels, upright, > 0.
        height: In pixels, upright, > 0.
        format: Pillow's name of the format, such as "JPEG".
        taken_at: Capture time as ISO 8601, with its fraction of a second and its offset where
            they are known.
        camera: Make and model.
        latitude: Degrees north, in [-90, 90].
        longitude: Degrees east, in [-180, 180].
        taken_source: Where `taken_at` is from: "exif", "xmp", "iptc", "sidecar" or "file-name".
        lens: Make and model.
        exposure_seconds: Exposure time, > 0.
        f_number: Focal length by aperture, > 0.
        iso: Sensitivity, > 0.
        focal_length_mm: Of the lens itself, > 0.
        altitude_m: Above sea level, negative below it.
        rating: Stars, in [0, 5]; -1 for rejected.
        title: One line.
        keywords: In the picture's own order, each once.
        metadata_version: Which way of reading metadata found all this; 0 where none did.
    """

    width: int
    height: int
    format: str
    taken_at: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    taken_source: str | None = None
    lens: str | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    altitude_m: float | None = None
    rating: int | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()
    metadata_version: int = 0

    def __post_init__(self) -> None:
        # A list, where the facts came through JSON, would make them unhashable and unequal.
        object.__setattr__(self, "keywords", tuple(self.keywords))


@dataclass(frozen=True, slots=True)
class Photo:
    """A content with the present files that name it."""

    id: int
    content_hash: bytes
    facts: PhotoFacts
    paths: tuple[bytes, ...]
    """Absolute paths of the present files, oldest row first."""
    companions: tuple[bytes, ...] = ()
    """Absolute paths of the files that belong to them, each once, in the order of the files."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to be written: a name for a content, or for a failure."""

    root_id: int
    path: bytes
    fingerprint: Fingerprint
    device: int | None = None
    companions: tuple[Companion, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class NewPhoto:
    """A content to be written with its vector.

    Attributes:
        content_hash: Hash of the file's bytes; the identity of the content.
        facts: What the decoder found.
        vector: Unit vector, float32, shape (dimension,).
        precision: Arithmetic of the tower that made the vector, such as "fp32" or "w8a16".
        device: Where the tower ran, such as "cpu" or "npu".
    """

    content_hash: bytes
    facts: PhotoFacts
    vector: NDArray[np.float32]
    precision: str
    device: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A photo near a query.

    Attributes:
        photo_id: The content.
        cosine: Inner product of the two unit vectors, in [-1, 1].
    """

    photo_id: int
    cosine: float


Orientation = Literal["portrait", "landscape", "square"]


@dataclass(frozen=True, slots=True)
class Where:
    """Which photos may be returned; every given condition must hold.

    Attributes:
        under: Absolute folder paths (bytes); a photo with a present file below one of them.
        formats: Pillow format names.
        taken_from: ISO 8601 date or time; the photo's moment is at or after it.
        taken_before: ISO 8601 date or time; the moment is before it.
        changed_from: Epoch seconds; a present file was modified then or later ...
        changed_before: ... and, the same file, before this.
        near: Latitude and longitude in degrees, and a radius in metres on a sphere of
            `siglip_index.distance.EARTH_RADIUS_M`; on the circle counts.
        cameras: The camera's name holds one of these, whatever the case.
        lenses: The lens's name holds one of these, whatever the case.
        orientation: Higher than wide, wider than high, or neither.
        min_width: In pixels, upright.
        min_height: In pixels, upright.
        min_pixels: Width times height.
        has_gps: Whether the photo states a position.
        min_rating: Stars; photos without a rating have none.
        keywords: All of them are among the photo's keywords, each as a whole, whatever the case.
        tags: All of them are among the photo's tags in the active space, whatever the case.
        photo_ids: One of these only; None for no such condition.
        not_photo_ids: None of these.

    A photo's moment is its capture time or, where it states none, the modification time of its
    oldest present file as the local clock shows it. Times are compared as the clock showed them
    where the picture was taken; an offset, in either, is not taken into account. A year or a month
    alone means its beginning.
    """

    under: tuple[bytes, ...] = ()
    formats: tuple[str, ...] = ()
    taken_from: str | None = None
    taken_before: str | None = None
    changed_from: float | None = None
    changed_before: float | None = None
    near: tuple[float, float, float] | None = None
    cameras: tuple[str, ...] = ()
    lenses: tuple[str, ...] = ()
    orientation: Orientation | None = None
    min_width: int | None = None
    min_height: int | None = None
    min_pixels: int | None = None
    has_gps: bool | None = None
    min_rating: int | None = None
    keywords: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    photo_ids: frozenset[int] | None = None
    not_photo_ids: frozenset[int] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True when no condition is given, so that every visible photo may be returned."""
        return self == Where()


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much is in the library.

    Attributes:
        pictures: Distinct contents that a search can return.
        files: Present files that name a picture.
        failed: Present files that could not be read as a picture.
        vanished: Contents without a present file, kept until they are pruned.
        online_only: Files that only the cloud has, of which nothing else is known.
    """

    pictures: int = 0
    files: int = 0
    failed: int = 0
    vanished: int = 0
    online_only: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found.

    Attributes:
        what: One line for a person.
        repaired: True when it was put right.
    """

    what: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of a check of the whole library.

    Attributes:
        checked: How many of each kind were looked at.
        problems: What is wrong; empty when the library is whole.
        notes: What is worth knowing but nothing wrong, such as a temporary file after a crash.
    """

    checked: dict[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """True when nothing is wrong that was not repaired."""
        return all(problem.repaired for problem in self.problems)
