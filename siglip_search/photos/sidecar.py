"""XMP sidecars: what programs write beside a picture. They are read, never written.

Which picture one belongs to is told by its name; see `stacks`.
"""

from __future__ import annotations

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.fingerprint import open_regular
from siglip_search.photos.metadata_xmp import MAX_XMP_BYTES, XmpFields, read_xmp


def read_sidecar(path: bytes, *, download_cloud: bool = False) -> XmpFields | None:
    """Read a sidecar.

    Args:
        path: The file.
        download_cloud: As in `open_regular`.

    Returns:
        None when it is no XMP, cannot be read, or is larger than any sidecar.
    """
    try:
        # As a picture is opened: a pipe of that name must not be waited for.
        with open_regular(path, download_cloud=download_cloud) as file:
            packet = file.read(MAX_XMP_BYTES + 1)
    except (OSError, UnreadablePictureError):
        return None
    return read_xmp(packet)
