"""XMP sidecars: what programs write beside a picture. Read here; `xmp_sidecar` makes new ones.

Which picture one belongs to is told by its name; see `stacks`.
"""

from __future__ import annotations

from siglip_search.errors import NotAPictureError
from siglip_search.photos.fingerprint import open_regular, refused_read
from siglip_search.photos.metadata_xmp import MAX_XMP_BYTES, XmpFields, read_xmp


def read_sidecar(path: bytes, *, download_cloud: bool = False) -> XmpFields | None:
    """Read a sidecar.

    Args:
        path: The file.
        download_cloud: As in `open_regular`.

    Returns:
        None when it is gone, no XMP, or larger than any sidecar.

    Raises:
        TryAgainError: If it cannot be read now, because only the cloud has it for one: what it
            says is there to be read some day.
    """
    try:
        # As a picture is opened: a pipe of that name must not be waited for.
        with open_regular(path, download_cloud=download_cloud) as file:
            packet = file.read(MAX_XMP_BYTES + 1)
    except (FileNotFoundError, NotAPictureError):
        return None
    except OSError as error:
        raise refused_read(error) from None
    return read_xmp(packet)
