"""`siglip-search devices`: what towers can run on here, and why not on the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import json_option, print_json, shown

if TYPE_CHECKING:
    from siglip_search.towers.devices import DeviceReport


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """Show what the model can run on here, and why it cannot on the rest.

    An NPU is tried with a small graph, in a process of its own, so that a broken driver does no
    harm.
    """
    from siglip_search.towers.devices import automatic_device, list_devices
    from siglip_search.towers.qnn_runtime import runtime_versions

    reports = list_devices()
    automatic = automatic_device(reports)
    versions = runtime_versions()
    if as_json:
        print_json(
            {
                "devices": [asdict(report) for report in reports],
                "auto": automatic,
                "runtime": versions,
            }
        )
        return
    width = max(len(report.name) for report in reports)
    for report in reports:
        state = "usable" if report.usable else "not usable"
        print(f"{report.name:{width}}  {state:10}  {shown(_described(report))}")
        if report.hint:
            print(f"{'':{width}}  {'':10}  {shown(report.hint)}")
    print(f"{'auto':{width}}  takes {automatic}")
    there = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    print(f"{'runtime':{width}}  {there}")


def _described(report: DeviceReport) -> str:
    # What keeps it from being used comes before anything else about it.
    parts = [report.reason, report.chip]
    if report.target is not None:
        parts.append(f"target {report.target}")
    if report.threads is not None:
        parts.append(f"{report.threads} threads" if report.threads > 1 else "1 thread")
    if report.features:
        parts.append(" ".join(report.features))
    parts.append(report.notice)
    return "; ".join(part for part in parts if part)
