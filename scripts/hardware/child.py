"""One check in a process of its own: a driver that crashes fails that check and no other."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from hardware import behaviour, making, numbers
from hardware.bench import Bench
from hardware.outcome import NOT_POSSIBLE, NotPossibleError, Outcome
from siglip_search.towers.child_process import answer_parent

CHECKS = {
    "machine": making.check_machine,
    "devices": making.check_devices,
    "probe": making.check_probe,
    "listing": making.check_listing,
    "fixed": making.make_fixed,
    "quantised": making.make_quantised,
    "fp16": numbers.check_fp16,
    "w8a16": numbers.check_w8a16,
    "context": numbers.check_context,
    "wrong-chip": numbers.check_wrong_chip,
    "emulator": numbers.check_emulator_figures,
    "time": behaviour.check_time,
    "memory": behaviour.check_memory,
    "ids": behaviour.check_ids,
    "threads": behaviour.check_threads,
    "long-run": behaviour.check_long_run,
    "energy": behaviour.check_energy,
    "commands": behaviour.check_commands,
    "record": numbers.record_emulator_figures,
}


def main() -> None:
    """Make the check that the command line names: NAME FOLDER DEVICE QUICK SECONDS."""
    name, folder, device, quick, seconds = sys.argv[1:]
    bench = Bench(Path(folder), device, quick == "quick", float(seconds))  # type: ignore[arg-type]

    def work() -> dict[str, Any]:
        try:
            outcome = CHECKS[name](bench)
        except NotPossibleError as error:
            outcome = Outcome(NOT_POSSIBLE, {}, str(error))
        return dataclasses.asdict(outcome)

    answer_parent(work)


if __name__ == "__main__":
    main()
