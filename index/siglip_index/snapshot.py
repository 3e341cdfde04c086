"""A FAISS file beside the database: what it contains, whether it may be trusted, how it is made.

The manifest, a small JSON file, is the commit point: an index file that it does not name does not
exist. A snapshot only saves time; whatever is wrong with one, the database is the truth.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from siglip_index.durable_files import write_durably
from siglip_index.file_names import is_snapshot, is_staging, is_temporary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import BinaryIO

    from siglip_index.faiss_index import FaissIndex
    from siglip_index.records import Space

MANIFEST_FORMAT = 1
_PREFIX = "vectors-"
_INDEX_SUFFIX = ".faiss"
_MANIFEST_SUFFIX = ".json"
_ATTEMPTS = 3


class SnapshotError(Exception):
    """A snapshot cannot be used; str() says why. The database has everything that it had."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot contains.

    Attributes:
        format: Version of this record.
        file: Name of the index file, in the manifest's folder.
        sha256: Of the index file, hexadecimal.
        size: Of the index file, bytes.
        mtime_ns: Of the index file; with `size` it spares hashing the file at every start.
        space_key: Whose vectors they are.
        dimension: Length of the vectors.
        count: How many vectors.
        generation: State of the database that it shows.
    """

    format: int
    file: str
    sha256: str
    size: int
    mtime_ns: int
    space_key: str
    dimension: int
    count: int
    generation: int


def manifest_path(directory: Path, space_id: int) -> Path:
    """Return where the manifest of a space lies."""
    return directory / f"{_PREFIX}{space_id}{_MANIFEST_SUFFIX}"


def read_manifest(directory: Path, space_id: int) -> Manifest | None:
    """Return the manifest of a space, None when it has no snapshot.

    Raises:
        SnapshotError: There is one, but it cannot be read.
    """
    path = manifest_path(directory, space_id)
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != MANIFEST_FORMAT:
            raise SnapshotError(f"{path.name} has the unknown format {content['format']!r}")
        manifest = Manifest(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SnapshotError(f"{path.name} cannot be read: {error}") from error
    for field in fields(Manifest):
        expected = str if field.type == "str" else int
        if type(getattr(manifest, field.name)) is not expected:
            raise SnapshotError(f"{path.name} has no proper {field.name}")
    if not manifest.file.startswith(_PREFIX) or "/" in manifest.file or "\\" in manifest.file:
        raise SnapshotError(f"{path.name} names a strange file")
    return manifest


def load(
    directory: Path, space_id: int, space: Space, *, always_hash: bool = False
) -> tuple[FaissIndex, Manifest] | None:
    """Return the snapshot of a space, without copying it into memory; None when there is none.

    Args:
        directory: Folder of the library.
        space_id: Row number of the space.
        space: The space that the vectors must belong to.
        always_hash: Compare the checksum even when the file looks untouched.

    Raises:
        SnapshotError: There is one, but it is damaged or another space's.
    """
    for attempt in range(_ATTEMPTS):
        manifest = read_manifest(directory, space_id)
        if manifest is None:
            return None
        if (manifest.space_key, manifest.dimension) != (space.key, space.dimension):
            raise SnapshotError("the snapshot belongs to another space")
        path = directory / manifest.file
        try:
            return _open(path, manifest, always_hash=always_hash), manifest
        except FileNotFoundError as error:
            # A writer may have replaced it between the two looks.
            if attempt + 1 == _ATTEMPTS:
                raise SnapshotError(f"{path.name} is missing") from error
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path.name} cannot be used: {error}") from error
    return None


def is_untouched(directory: Path, manifest: Manifest) -> bool:
    """Tell whether the index file is there and looks as it did when it was written."""
    try:
        status = (directory / manifest.file).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (manifest.size, manifest.mtime_ns)


def _open(path: Path, manifest: Manifest, *, always_hash: bool) -> FaissIndex:
    # Imported here: a writer that makes no snapshot never needs FAISS.
    from siglip_index.faiss_index import FaissIndex

    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size != manifest.size:
            raise ValueError(f"it has {status.st_size} bytes instead of {manifest.size}")
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # A search reads all of it; the whole file is fetched in large pieces from the start.
    if hasattr(mmap, "MADV_WILLNEED"):
        buffer.madvise(mmap.MADV_WILLNEED)
    if (always_hash or status.st_mtime_ns != manifest.mtime_ns) and (
        hashlib.sha256(buffer).hexdigest() != manifest.sha256
    ):
        raise ValueError("its checksum is wrong")
    index = FaissIndex.view(buffer, manifest.dimension)
    if len(index) != manifest.count:
        raise ValueError(f"it has {len(index)} vectors instead of {manifest.count}")
    return index


def write_index_file(
    directory: Path, space_id: int, space: Space, index: FaissIndex, generation: int
) -> Manifest:
    """Write the index file, durably; return the manifest that is still to be written.

    Raises:
        OSError: Nothing is left of the file then.
    """
    digest = hashlib.sha256()
    # A name is never used twice: a reader may still have the former file of this generation.
    name = f"{_PREFIX}{space_id}-{generation}-{secrets.token_hex(3)}{_INDEX_SUFFIX}"
    path = directory / name

    def write(file: BinaryIO) -> None:
        def write_block(block: bytes) -> None:
            digest.update(block)
            file.write(block)

        index.write_to(write_block)

    status = write_durably(path, write)
    return Manifest(
        format=MANIFEST_FORMAT,
        file=path.name,
        sha256=digest.hexdigest(),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        space_key=space.key,
        dimension=space.dimension,
        count=len(index),
        generation=generation,
    )


def write_manifest(directory: Path, space_id: int, manifest: Manifest) -> None:
    """Make an index file the snapshot of its space.

    Raises:
        OSError: The former snapshot stays in force then.
    """
    content = json.dumps(asdict(manifest), indent=1).encode() + b"\n"
    write_durably(manifest_path(directory, space_id), lambda file: file.write(content))


def leftovers(directory: Path, space_ids: Iterable[int]) -> list[Path]:
    """Return temporary files, manifests of no space, index files that no manifest names.

    The folders in which restores prepared a library are among them.

    A crash leaves them; only the holder of the writer's lock may delete them.
    """
    named: set[str] = set()
    space_ids = list(space_ids)
    manifests = {manifest_path(directory, space_id).name for space_id in space_ids}
    for space_id in space_ids:
        with suppress(SnapshotError):
            manifest = read_manifest(directory, space_id)
            if manifest is not None:
                named.add(manifest.file)
    return sorted(
        path
        for path in directory.iterdir()
        if is_temporary(path.name)
        or is_staging(path.name)
        or (is_snapshot(path.name) and path.name not in named | manifests)
    )


def sweep(directory: Path, space_ids: Iterable[int]) -> int:
    """Delete leftovers; return how many."""
    swept = 0
    for path in leftovers(directory, space_ids):
        # On Windows a file that a reader has mapped cannot go yet; the next sweep takes it.
        with suppress(OSError):
            if is_staging(path.name) and path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            swept += 1
    return swept


def size_bytes(directory: Path, space_id: int | None = None) -> int:
    """Return how much space the snapshot files of a space take, or those of all."""
    total = 0
    pattern = f"{_PREFIX}*" if space_id is None else f"{_PREFIX}{space_id}[-.]*"
    for path in directory.glob(pattern):
        with suppress(OSError):
            total += path.stat().st_size
    return total
