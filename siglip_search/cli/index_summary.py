"""What a run of `index` did, in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_search.cli.console import count, duration, shown
from siglip_search.photos.optional_formats import install_line

if TYPE_CHECKING:
    from siglip_search.ingest.report import IngestReport


def print_summary(report: IngestReport, *, dry_run: bool = False) -> None:
    """Print what was done, one line a fact, nothing about what did not occur."""
    done = "would be " if dry_run else ""
    waiting = sum(report.missing_extras.values())
    lines = [
        (report.added, "picture", f"{done}added"),
        (report.changed, "picture", "changed" if dry_run else "updated"),
        (report.moved, "picture", "moved, not read again"),
        (report.removed, "file", f"gone: {done or 'are '}out of the results"),
        (report.unchanged, "picture", "unchanged"),
        (report.metadata_read, "picture", "with metadata read again, and not embedded again"),
        (report.tagged, "picture", "compared with the labels of `siglip-search tag`"),
        (report.companions, "file", "beside their pictures (RAW, film of a Live Photo, sidecar)"),
        (report.ignored - waiting, "file", "ignored (no pictures)"),
        (report.online_only, "file", "only in the cloud, not read: --download-cloud reads them"),
        (report.pending, "file", "left for the next run"),
    ]
    for number, noun, what in lines:
        if number:
            print(f"{count(number, noun)} {what}")
    if report.copies:
        print(f"  {count(report.copies, 'copy', 'copies')} among them, embedded once")
    if report.failed:
        print(f"{count(report.failed, 'file')} could not be read:")
        for failure in report.failures[:5]:
            print(f"  {shown(failure.path)}: {failure.reason}")
        if report.failed > 5:
            print("  ... `siglip-search status --failed` lists them all")
    if report.switched:
        print(f"{report.model} answers from now on")
    if not report.seen and not report.pending and not report.online_only:
        print("no files found")
    if waiting:
        extras = ",".join(sorted(report.missing_extras))
        print(f"{count(waiting, 'picture')} ignored for want of an extra: {install_line(extras)}")
    rate = f", {report.embedded / report.seconds:.1f} pictures/s" if report.embedded else ""
    print(f"{duration(report.seconds)}{rate}")
