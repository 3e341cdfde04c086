"""A camera's RAW stands in for the picture that it belongs to where that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_search.ingest.same_file import SameFile
from siglip_search.photos.fingerprint import would_download
from siglip_search.photos.scan_result import SeenFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_index.records import KnownFile
    from siglip_search.photos.scan_result import ScanResult


def with_raws_in_stead(
    scan: ScanResult, known: Iterable[KnownFile], root: bytes, *, download_cloud: bool
) -> ScanResult:
    """Return the scan with the RAWs of damaged JPEGs as pictures, or no shot would be found.

    The JPEG stays what it is, a file that could not be read; once it is another one, the RAW
    belongs to it again.

    Args:
        scan: What is on disk.
        known: What the library remembers below the root.
        root: Absolute path of the root.
        download_cloud: Let RAWs be read as well that only the cloud has.
    """
    failed = {file.path: file for file in known if file.failure is not None}
    if not failed:
        return scan
    same_file = SameFile(failed, scan.files)
    files: list[SeenFile] = []
    online_only = list(scan.online_only)
    released = 0
    for seen in scan.files:
        before = failed.get(seen.path)
        raws = [item for item in seen.companions if item.kind == "raw"]
        if before is None or not raws or not same_file(before, seen):
            files.append(seen)
            continue
        alone, in_stead = apart_from_raws(seen)
        files.append(alone)
        for raw in in_stead:
            waits = not download_cloud and would_download(join(root, raw.path))
            (online_only if waits else files).append(raw)
        released += len(in_stead)
    return replace(
        scan, files=files, online_only=online_only, companions=scan.companions - released
    )


def apart_from_raws(seen: SeenFile) -> tuple[SeenFile, list[SeenFile]]:
    """Return a picture without its RAWs, and each of those as a picture of its own."""
    raws = [item for item in seen.companions if item.kind == "raw"]
    others = tuple(item for item in seen.companions if item.kind != "raw")
    # Sidecars say something of the shot, and count for each of its RAWs.
    sidecars = tuple(item for item in others if item.kind == "sidecar")
    return replace(seen, companions=others), [
        SeenFile(raw.path, raw.fingerprint, seen.device, sidecars) for raw in raws
    ]
