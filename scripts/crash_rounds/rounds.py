"""One round: a process begins to work, is killed at some moment, and what it leaves is judged."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crash_rounds.judgement import Holding, generation_of, holding
from crash_rounds.processes import Command, have_ended
from siglip_index.verify import verify

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from crash_rounds.churn import Churn
    from crash_rounds.processes import Place

# Whoever waits for a moment that does not come kills at another one.
AIM_SECONDS = 9.0
ORPHANS_SECONDS = 10.0
# A client whose daemon was killed has to end by itself.
CLIENT_SECONDS = 20.0

WATCH = ("watch", "--nice", "0", "--settle", "0.2", "--on-battery", "run")
INDEX = ("index", "--json-events", "--on-battery", "run")


@dataclass
class Outcome:
    """What a round showed.

    Attributes:
        program: `watch`, `index`, or both when one handed its folder over to the other.
        aim: At which moment it was killed.
        is_hit: Whether that moment came.
        embedded: Pictures that were embedded in it.
        lost: Those of them that no commit had kept when it was killed.
        acknowledged: Pictures that had to be there afterwards.
        faults: What must not be, one line each.
    """

    program: str
    aim: str
    is_hit: bool = True
    embedded: int = 0
    lost: int = 0
    acknowledged: int = 0
    faults: list[str] = field(default_factory=list)


class Rounds:
    """Rounds over one library.

    Args:
        place: Where it lies.
        churn: What happens to its pictures.
        chance: Decides what happens when.

    Attributes:
        acknowledged: Content of each picture that was found at some time.
    """

    def __init__(self, place: Place, churn: Churn, chance: random.Random) -> None:
        self._place = place
        self._churn = churn
        self._chance = chance
        self.acknowledged: dict[Path, bytes] = {}

    def play(self, program: str, aim: str) -> Outcome:
        """Play a round.

        Args:
            program: See `Outcome`.
            aim: `any time`, `commit`, `snapshot` or `idle snapshot`.
        """
        outcome = Outcome(program, aim)
        place, churn = self._place, self._churn
        if "snapshot" in aim or self._chance.random() < 0.3:
            self._make_snapshot_due()
        self._churn_for(self._chance.randrange(2, 6))
        churn.forget_touched()
        before = holding(place.library)
        embedded_before = len(place.embedded())
        commands = [Command(place, *(WATCH if "watch" in program else INDEX), place.pictures)]
        if program == "watch+index" and commands[0].says("looks after"):
            commands.append(Command(place, *INDEX, place.pictures))
        outcome.is_hit = self._wait_for(aim, commands[0])
        if self._chance.random() < 0.5:
            # The last thing that a reader saw before; where it stays out, the kill is a surprise.
            self._acknowledge(holding(place.library))
        children = commands[0].children()
        if not commands[0].is_running and commands[0].end() != 0:
            outcome.faults += ["it ended by itself:", *commands[0].errors[-5:]]
        commands[0].kill()
        self._hear_out(commands, children, outcome)
        after = holding(place.library)
        outcome.embedded = len(place.embedded()) - embedded_before
        outcome.lost = outcome.embedded - (after.vectors - before.vectors)
        self._judge(after, commands, outcome)
        return outcome

    def _wait_for(self, aim: str, command: Command) -> bool:
        if aim == "any time":
            end = time.monotonic() + self._chance.random() * 3.0
            self._go_on_until(lambda: time.monotonic() > end, command)
            return True
        if aim == "idle snapshot":
            command.says("caught up")
            self._make_snapshot_due()
            self._churn.burst()
        if aim == "commit":
            wanted = generation_of(self._place.library) + self._chance.randrange(1, 12)
            came = self._go_on_until(lambda: generation_of(self._place.library) >= wanted, command)
        else:
            # Without churn: what is written then is written once all is quiet.
            came = _wait_until(self._snapshot_is_being_written, command)
        time.sleep(self._chance.random() * self._chance.choice((0.002, 0.02, 0.2)))
        return came

    def _go_on_until(self, is_so: Callable[[], bool], command: Command) -> bool:
        """Go on with the churn until something is so; False when it never was."""
        churn_at = time.monotonic() + self._chance.random()

        def turn() -> bool:
            nonlocal churn_at
            if time.monotonic() > churn_at:
                self._churn.step()
                churn_at = time.monotonic() + self._chance.random() * 0.4
            return is_so()

        return _wait_until(turn, command)

    def _snapshot_is_being_written(self) -> bool:
        return any(self._place.library.glob("vectors-*"))

    def _make_snapshot_due(self) -> None:
        for file in self._place.library.glob("vectors-*"):
            file.unlink(missing_ok=True)

    def _churn_for(self, steps: int) -> None:
        for _ in range(steps):
            self._churn.step()

    def _hear_out(self, commands: list[Command], children: list[int], outcome: Outcome) -> None:
        for command in commands[1:]:
            if not have_ended([command.process.pid], CLIENT_SECONDS):
                outcome.faults.append("a command waits for its dead daemon")
            command.kill()
        if not have_ended(children, ORPHANS_SECONDS):
            outcome.faults.append("a decoding process outlived its parent")
        for command in commands:
            if any("Traceback" in line for line in command.errors):
                outcome.faults += ["a traceback:", *command.errors[-20:]]

    def _judge(self, after: Holding, commands: list[Command], outcome: Outcome) -> None:
        if self._place.library.exists() and after.generation >= 0:
            report = verify(self._place.library)
            if not report.is_whole:
                outcome.faults += [f"verify: {problem}" for problem in report.problems]
        disk = self._churn.disk
        self.acknowledged = {
            path: content
            for path, content in self.acknowledged.items()
            if disk.get(path) == content
        }
        told = set().union(*(command.committed() for command in commands)) - self._churn.touched
        wanted = self.acknowledged | {path: disk[path] for path in told if path in disk}
        outcome.acknowledged = len(wanted)
        outcome.faults += [
            f"acknowledged and not there: {path.relative_to(self._place.pictures)}"
            for path, content in sorted(wanted.items())
            if after.pictures.get(path) != content
        ]
        self._acknowledge(after)

    def _acknowledge(self, seen: Holding) -> None:
        disk = self._churn.disk
        self.acknowledged |= {
            path: content for path, content in seen.pictures.items() if disk.get(path) == content
        }


def _wait_until(is_so: Callable[[], bool], command: Command) -> bool:
    deadline = time.monotonic() + AIM_SECONDS
    while command.is_running and time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.001)
    return False
