"""`siglip-search status`: what is in the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
    shown,
)
from siglip_search.cli.service_rows import service_rows, state_of_daemon

if TYPE_CHECKING:
    from siglip_index.records import SpaceUsage


@click.command()
@click.option("--failed", is_flag=True, help="List the pictures that could not be read.")
@json_option
@click.option(
    "--prometheus", is_flag=True, help="Print the figures in Prometheus' text exposition format."
)
@library_option
def status(failed: bool, as_json: bool, prometheus: bool) -> None:
    """Show what is in the library, and what `watch` is doing; zeros where there is none yet."""
    if prometheus and (as_json or failed):
        raise click.UsageError("--prometheus goes with neither --json nor --failed.")
    with chosen_library() as library:
        found = library.status()
    service = None if failed and not as_json else state_of_daemon(found.directory)
    if prometheus:
        from siglip_search.service.metrics import exposition

        print(exposition(found, service), end="")
        return
    if as_json:
        counts = found.counts
        print_json(
            {
                "library": found.directory,
                "pictures": counts.pictures,
                "files": counts.files,
                "failed": counts.failed,
                "vanished": counts.vanished,
                "online_only": counts.online_only,
                "model": found.model,
                "switching_to": found.coming,
                "spaces": [
                    {
                        "model": usage.space.model,
                        "key": usage.space.key,
                        "vectors": usage.vectors,
                        "disk_bytes": usage.disk_bytes,
                    }
                    for usage in found.spaces
                ],
                "roots": found.roots,
                "disk_bytes": found.disk_bytes,
                "service": service,
                **(
                    {
                        "failures": [
                            {"path": path, "reason": reason} for path, reason in found.failures
                        ]
                    }
                    if failed
                    else {}
                ),
            }
        )
        return
    if failed:
        for path, reason in found.failures:
            print(f"{shown(path)}: {reason}")
        return
    counts = found.counts
    rows = [
        ("library", f"{shown(str(found.directory))} ({found.disk_bytes / 1e6:,.1f} MB)"),
        ("model", found.model or "none yet"),
        ("pictures", f"{counts.pictures:,} in {count(counts.files, 'file')}"),
        ("failed", f"{counts.failed:,}" + (" (--failed lists them)" if counts.failed else "")),
    ]
    if counts.vanished:
        rows.append(("vanished", f"{counts.vanished:,}, kept until `siglip-search prune`"))
    if counts.online_only:
        only_there = f"{count(counts.online_only, 'file')} only there"
        rows.append(("cloud", f"{only_there}: `siglip-search index --download-cloud` reads them"))
    rows += [("vectors", _described(usage)) for usage in found.spaces]
    if found.coming is not None:
        rows.append(("switching", f"to {found.coming}: `siglip-search index` goes on with it"))
    rows += [("folder", shown(root)) for root in found.roots]
    if service is not None:
        rows += service_rows(service)
    for name, value in rows:
        print(f"{name:9} {value}")


def _described(usage: SpaceUsage) -> str:
    return f"{usage.vectors:,} by {usage.space.model} ({usage.disk_bytes / 1e6:,.1f} MB)"
