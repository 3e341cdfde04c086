#!/usr/bin/env python3
"""Count what restarts cost amid an index of many pictures: the pictures that are embedded again.

    python scripts/restart_cost.py --pictures 10000 --kills 20 --report restart_cost.txt

`siglip-search index` and `watch` take turns at a folder of small pictures, each like no other, and
are killed with SIGKILL at random places of the work, until the last run ends by itself. The tower
of each keeps a record of what it embeds. Exit status 1 if a kill cost more than one batch and the
pictures in the tower's hands, if a picture is missing at the end, or if `verify` finds anything.

A process that is killed leaves what it wrote to the system, which writes it to the disk; a machine
that loses its power does not. That commits survive that too is SQLite's promise for
`synchronous=FULL` on disks that keep theirs. It is not shown here.

Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from crash_rounds.churn import picture
from crash_rounds.judgement import holding
from crash_rounds.processes import Command, Place
from crash_rounds.rounds import INDEX, WATCH

from siglip_index.verify import verify
from siglip_search.ingest.work import BATCH_PICTURES

PATIENCE_SECONDS = 600.0


def make_pictures(folder: Path, number: int, chance: random.Random) -> None:
    """Fill a folder, 500 pictures to a subfolder."""
    for count in range(number):
        inner = folder / f"{count // 500:03}"
        inner.mkdir(exist_ok=True)
        (inner / f"{count:06}.bmp").write_bytes(picture(chance, ".bmp"))


def wait_for(command: Command, place: Place, embedded: int) -> None:
    """Wait until so many pictures were embedded, or the process has ended.

    Raises:
        SystemExit: That takes too long.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while command.is_running and place.embeddings() < embedded:
        if time.monotonic() > deadline:
            raise SystemExit(f"it does not go on: {command.errors[-5:]}")
        time.sleep(0.002)


def run(place: Place, pictures: int, kills: int, chance: random.Random) -> list[tuple[str, int]]:
    """Kill so many times, then let it end; return what each kill cost, with the program's name."""
    costs = []
    # Each kill at another depth, and never so late that nothing is left for the rest.
    depths = sorted(chance.sample(range(1, pictures), kills))
    embedded = kept = 0
    for number, depth in enumerate(depths):
        name, arguments = (("index", INDEX), ("watch", WATCH))[number % 2]
        command = Command(place, *arguments, place.pictures)
        wait_for(command, place, embedded + depth - kept)
        time.sleep(chance.random() * 0.05)
        command.kill()
        new, now = place.embeddings() - embedded, holding(place.library).vectors
        costs.append((name, new - (now - kept)))
        embedded, kept = embedded + new, now
    return costs


def main() -> None:
    """Run, print the report and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--report", type=Path, help="where the report is written as well")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="restart") as name:
        place = Place(Path(name).resolve())
        make_pictures(place.pictures, arguments.pictures, chance)
        costs = run(place, arguments.pictures, arguments.kills, chance)
        last = Command(place, *INDEX, place.pictures)
        status = last.end(PATIENCE_SECONDS)
        records, found = place.embedded(), holding(place.library)
        is_whole = verify(place.library).is_whole
    again = len(records) - len(set(records))
    most = max(cost for _, cost in costs)
    # While a batch is being committed the tower finishes what it has in hand.
    allowed = BATCH_PICTURES + 2 * (os.cpu_count() or 1)
    is_good = (
        status == 0
        and is_whole
        and len(found.pictures) == len(set(records)) == arguments.pictures
        and most <= allowed
        and again <= BATCH_PICTURES * arguments.kills
    )
    each = [f"{name} {cost}" for name, cost in costs]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, python scripts/restart_cost.py --pictures "
        f"{arguments.pictures} --kills {arguments.kills} --seed {arguments.seed}; "
        f"{time.monotonic() - began:.0f} s, demo model, {os.cpu_count()} cores, {sys.platform}",
        f"{arguments.pictures:,} pictures, SIGKILL {arguments.kills} times; a batch is "
        f"{BATCH_PICTURES} pictures",
        f"embedded: {len(records):,}; more than once: {again}, of at most "
        f"{BATCH_PICTURES * arguments.kills:,}; most that one kill cost: {most}",
        f"each kill cost: {', '.join(each)}",
        f"found at the end: {len(found.pictures):,}; "
        f"verify: {'clean' if is_whole else 'NOT CLEAN'}",
        "A process was killed, not the power cut: that is left to SQLite's synchronous=FULL.",
        "good" if is_good else f"NOT GOOD {last.errors[-5:]}",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
