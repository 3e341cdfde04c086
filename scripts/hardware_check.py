"""Check a machine with a Qualcomm NPU: what works there, with which numbers, and how fast.

    python scripts/hardware_check.py                        with a long run of a minute
    python scripts/hardware_check.py --quick                few pictures, short runs
    python scripts/hardware_check.py --device npu-emulator  on an x86-64 PC: tries this script

Needs nothing but the program with two extras, pip install "siglip-search[npu,quantize]", and
works offline: model and pictures are the demonstration's. Nothing is installed, and everything is
done in a temporary folder. Each check runs in a process of its own, so that a driver which crashes
or hangs is a failed check and not the end. Two files come of it, hardware-report.md and the same
as .json, without personal data; they are written anew after each check, and so are there even if
the machine goes down. The exit status is 2 if no check passed, else 1 if one failed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware.outcome import FAIL, NOT_POSSIBLE, PASS
from hardware.report import PersonalData, as_markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
LONG_RUN_SECONDS, QUICK_SECONDS = 60.0, 2.0
MOST_SECONDS = 600.0
INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended."""

MODULES = {
    "siglip_search": "siglip-search",
    "onnxruntime_qnn": "onnxruntime-qnn (the extra npu)",
    "onnx": "onnx (the extra quantize)",
}
INSTALL = 'pip install "siglip-search[npu,quantize]"'

TITLES = {
    "machine": "What the system says of the machine",
    "devices": "The device can be used",
    "probe": "The driver computes one product",
    "listing": "Listed as an NPU",
    "fixed": "Making the test model: fixed shapes",
    "quantised": "Making the test model: W8A16",
    "fp16": "Half precision: everything on HTP, cosine to fp32",
    "w8a16": "W8A16: everything on HTP, cosine to fp32, retrieval",
    "context": "Compiled context for this chip: same vectors, time to load",
    "wrong-chip": "Compiled context for another chip is refused",
    "emulator": "Results against the emulator's",
    "time": "Time",
    "memory": "Memory",
    "ids": "Ids outside the vocabulary are refused",
    "threads": "Several threads",
    "long-run": "A long run",
    "energy": "Energy",
    "commands": "`index` and `query` end to end",
}
WITHOUT_DEVICE = {"machine", "devices"}
"""Checks that say something even where the device cannot be used."""

EMULATOR_NOTE = (
    "**The emulator**: an x86-64 PC. Times, memory and what the machine is called say nothing "
    "about an NPU's."
)

UNFINISHED_NOTE = "**Not finished**: here is what was checked before it was stopped."


def main() -> None:
    """Make every check and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("npu", "npu-emulator"), default="npu")
    parser.add_argument("--quick", action="store_true", help="few pictures, short runs")
    parser.add_argument("--seconds", type=positive_seconds, help="length of the long run")
    parser.add_argument(
        "--out", type=page_name, default=Path("hardware-report.md"), help="the page to write"
    )
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    missing = [title for name, title in MODULES.items() if importlib.util.find_spec(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed: {INSTALL}", file=sys.stderr)
        raise SystemExit(2)
    if not asked.record and (refusal := unwritable(asked.out)):
        print(refusal, file=sys.stderr)
        raise SystemExit(2)
    seconds = asked.seconds
    if seconds is None:
        seconds = QUICK_SECONDS if asked.quick else LONG_RUN_SECONDS
    with tempfile.TemporaryDirectory(prefix="siglip-search-check-") as made:
        folder = Path(made).resolve()
        personal = PersonalData(folder, REPOSITORY)
        live_in(folder / "home")
        form = "quick" if asked.quick else "whole"
        common = (os.fspath(folder), asked.device, form, str(seconds))
        if asked.record:
            for name in ("fixed", "record"):
                print(one_check(name, common, seconds))
            return
        checks: list[dict[str, Any]] = []
        finished = False
        try:
            for check in all_checks(common, seconds):
                checks.append(personal.removed_everywhere(check))
                finished = len(checks) == len(TITLES)
                write_report(asked, checks, finished=finished)
        except KeyboardInterrupt:
            if not checks:
                print("interrupted; nothing was checked", file=sys.stderr)
                raise SystemExit(INTERRUPTED) from None
            print("interrupted; written what was checked", file=sys.stderr)
        except OSError as error:
            # The places themselves were tried before: a full disk, say.
            print(f"{asked.out} cannot be written: {error.strerror or error}", file=sys.stderr)
            raise SystemExit(2) from error
    print(f"written: {asked.out} and {asked.out.with_suffix('.json').name}")
    if not finished:
        raise SystemExit(INTERRUPTED)
    states = {check["status"] for check in checks}
    raise SystemExit(2 if PASS not in states else FAIL in states)


def positive_seconds(text: str) -> float:
    """Return a length of time from the command line."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no length of time")
    return seconds


def page_name(text: str) -> Path:
    """Return the page's file from the command line."""
    path = Path(text)
    if not path.stem or path.suffix.lower() == ".json":
        raise argparse.ArgumentTypeError(f"{text}: name the page, report.md, say; JSON comes too")
    return path


def unwritable(page: Path) -> str:
    """Return why the report cannot be written, "" if it can: before minutes of checks."""
    for path in (page, page.with_suffix(".json")):
        if path.is_dir():
            return f"{path} is a folder: name a file, as in --out report.md"
    try:
        # Really: a folder's permissions do not say what its file system takes.
        with tempfile.NamedTemporaryFile(dir=page.parent, prefix=".hardware-report-"):
            return ""
    except OSError as error:
        reason = error.strerror or error
        return f"{page} cannot be written: {reason}. Name another file: --out report.md"


def write_report(
    asked: argparse.Namespace, checks: list[dict[str, Any]], *, finished: bool
) -> None:
    """Write what was checked so far, in both forms; each file is whole at any time."""
    from siglip_index.durable_files import write_durably

    day = dt.date.today().isoformat()
    notes = [EMULATOR_NOTE] * (asked.device == "npu-emulator") + [UNFINISHED_NOTE] * (not finished)
    page = as_markdown(asked.device, day, asked.quick, checks, "\n\n".join(notes))
    report = {
        "device": asked.device,
        "day": day,
        "quick": asked.quick,
        "finished": finished,
        "checks": checks,
    }
    for path, text in (
        (asked.out, page),
        (asked.out.with_suffix(".json"), json.dumps(report, indent=1)),
    ):
        write_durably(path, lambda file, text=text: file.write(text.encode()))


def live_in(home: Path) -> None:
    """Let this process and its children keep models, settings and caches in a folder of ours."""
    home.mkdir()
    for name in ("DATA", "CONFIG", "CACHE", "STATE"):
        os.environ[f"XDG_{name}_HOME"] = os.fspath(home / name.lower())
    # What platformdirs obeys on Windows, where the system's own answer does not come from these.
    for name in ("LOCAL_APPDATA", "APPDATA"):
        os.environ[f"WIN_PD_OVERRIDE_{name}"] = os.fspath(home / name.lower())
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
        os.environ[name] = os.fspath(home)
    for name in ("SIGLIP_SEARCH_LIBRARY", "SIGLIP_SEARCH_MODEL"):
        os.environ.pop(name, None)


def all_checks(common: tuple[str, ...], seconds: float) -> Iterator[dict[str, Any]]:
    """Make the checks one after the other, say on stdout how each ended, and yield it."""
    usable = True
    for name, title in TITLES.items():
        begun = time.perf_counter()
        if usable or name in WITHOUT_DEVICE:
            found = one_check(name, common, seconds)
        else:
            advice = "the device cannot be used, see above"
            found = {"status": NOT_POSSIBLE, "figures": {}, "advice": advice}
        if name == "devices":
            usable = found["status"] == PASS
        took = time.perf_counter() - begun
        print(f"{found['status']:13} {took:5.1f} s  {title}", flush=True)
        yield {"name": name, "title": title, **found}


def one_check(name: str, common: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Make one check in a process of its own."""
    from siglip_search.errors import SiglipSearchError
    from siglip_search.towers.child_process import ask_child

    try:
        return ask_child(
            "hardware.child",
            [name, *common],
            what="the check did not end well",
            hint="Update the NPU's driver; a crash is worth a report.",
            timeout_seconds=MOST_SECONDS + 2 * seconds,
        )
    except SiglipSearchError as error:
        return {"status": FAIL, "figures": {"error": str(error)}, "advice": error.hint}


if __name__ == "__main__":
    main()
