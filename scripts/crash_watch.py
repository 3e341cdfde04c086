#!/usr/bin/env python3
"""Kill `siglip-search watch` and `index` with SIGKILL again and again, and judge what they leave.

    python scripts/crash_watch.py --kills 220 --report crash_watch.txt

Pictures are added, changed, moved and deleted and folders renamed before each process starts and
while it works. It is killed at any time, amid or just after a commit, or while a snapshot is
written. After each kill `verify` must be clean, and every picture that a reader saw before, or that
a command told to be committed, must still be found, unless something happened to its file. At the
end of each library one `index` must make it what a fresh index of the same pictures is. Exit
status 1 if anything of this is not so. One seed gives the same pictures and the same intentions;
at which instruction a process dies is chance.

Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from crash_rounds.churn import Churn
from crash_rounds.judgement import difference
from crash_rounds.processes import Command, Place
from crash_rounds.rounds import INDEX, Outcome, Rounds

from siglip_search.ingest.work import BATCH_PICTURES

# What is killed, and when, in turn.
TURNS = (
    ("watch", "any time"),
    ("index", "any time"),
    ("watch", "commit"),
    ("watch", "snapshot"),
    ("index", "commit"),
    ("watch+index", "commit"),
    ("watch", "any time"),
    ("index", "snapshot"),
    ("watch", "commit"),
    ("watch", "idle snapshot"),
)


def play_library(
    folder: Path, kills: int, chance: random.Random, counts: Counter[str]
) -> tuple[list[Outcome], list[str]]:
    """Play rounds over a library that begins empty; return them, and what is wrong at the end."""
    place = Place(folder)
    churn = Churn(place.pictures, chance)
    for _ in range(8):
        churn.burst()
    rounds = Rounds(place, churn, chance)
    outcomes = []
    for number in range(kills):
        outcomes.append(rounds.play(*TURNS[number % len(TURNS)]))
        for fault in outcomes[-1].faults:
            print(f"kill {number + 1}, {outcomes[-1].program}, {outcomes[-1].aim}: {fault}")
    last = Command(place, *INDEX, place.pictures)
    faults = [] if last.end() == 0 else ["the last index failed", *last.errors]
    embedded = place.embedded()
    counts["embedded in all"] += len(embedded)
    counts["embedded more than once"] += len(embedded) - len(set(embedded))
    fresh = Place(folder / "fresh")
    if Command(fresh, *INDEX, place.pictures).end() != 0:
        faults.append("the fresh index failed")
    faults += difference(place.library, fresh.library)
    counts["pictures at the end"] += len(churn.disk)
    counts.update({f"done: {what}": number for what, number in churn.counts.items()})
    return outcomes, faults


def table(outcomes: list[Outcome]) -> list[str]:
    """Return the rounds by what was killed and when."""
    lines = [
        "| killed | when | kills | moment met | embedded | again, most in one kill "
        "| acknowledged, most |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for program, aim in dict.fromkeys(TURNS):
        some = [one for one in outcomes if (one.program, one.aim) == (program, aim)]
        if some:
            lines.append(
                f"| {program} | {aim} | {len(some)} | {sum(one.is_hit for one in some)} "
                f"| {sum(one.embedded for one in some)} | {sum(one.lost for one in some)}, "
                f"{max(one.lost for one in some)} | {max(one.acknowledged for one in some)} |"
            )
    return lines


def main() -> None:
    """Play, print the report and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--each", type=int, default=40, help="kills until a library begins anew")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--report", type=Path, help="where the report is written as well")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    outcomes: list[Outcome] = []
    faults: list[str] = []
    counts: Counter[str] = Counter()
    began = time.monotonic()
    libraries = 0
    while len(outcomes) < arguments.kills:
        libraries += 1
        kills = min(arguments.each, arguments.kills - len(outcomes))
        with tempfile.TemporaryDirectory(prefix="crash") as name:
            played, wrong = play_library(Path(name).resolve(), kills, chance, counts)
        outcomes += played
        faults += [fault for one in played for fault in one.faults] + wrong
    again, most = counts["embedded more than once"], max(one.lost for one in outcomes)
    if again > BATCH_PICTURES * len(outcomes):
        faults.append("more than a batch was embedded again for each kill")
    deeds = [f"{what[6:]} {n}" for what, n in sorted(counts.items()) if what.startswith("done: ")]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, python scripts/crash_watch.py "
        f"--kills {arguments.kills} --each {arguments.each} --seed {arguments.seed}; "
        f"{time.monotonic() - began:.0f} s, demo model, {sys.platform}",
        f"SIGKILL {len(outcomes)} times, {libraries} libraries; done to the folders: "
        + ", ".join(deeds),
        "",
        *table(outcomes),
        "",
        f"pictures embedded: {counts['embedded in all']:,}; more than once: {again:,}, "
        f"{again / len(outcomes):.1f} for each kill, of at most {BATCH_PICTURES} (one batch) each; "
        f"most that one kill cost: {most}",
        f"pictures at the ends: {counts['pictures at the end']:,}, the same as in fresh indexes",
        "verify clean after each kill, nothing acknowledged missing"
        if not faults
        else f"FAULTS: {len(faults)}",
        *faults[:50],
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
