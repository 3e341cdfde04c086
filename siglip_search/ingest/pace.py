"""How much a long run may ask of the machine now: battery and heat in, pictures at a time out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

OnBattery = Literal["pause", "slow", "run"]
ON_BATTERY: tuple[OnBattery, ...] = get_args(OnBattery)

# Below this a slow run waits for the charger: what is left belongs to whoever works at the machine.
LOW_BATTERY_PERCENT = 20.0

# Degrees Celsius below the point at which the machine would switch itself off. Processors clock
# themselves down shortly before it, so that going on at full speed gains little and is loud. Each
# state is left later than it is entered, so that it does not come and go with every reading.
SLOW_WITHIN_DEGREES = 8.0
SLOW_UNTIL_DEGREES = 15.0
PAUSE_WITHIN_DEGREES = 3.0
PAUSE_UNTIL_DEGREES = 10.0

READ_EVERY_SECONDS = 5.0
READ_EVERY_SECONDS_WHILE_PAUSED = 1.0


@dataclass(frozen=True, slots=True)
class MachineReading:
    """What the machine says of itself.

    Attributes:
        on_battery: It runs on a battery of its own, and no charger is connected.
        battery_percent: Charge, in [0, 100]; None where there is no battery, or it does not tell.
        degrees_to_critical: How far the hottest sensor of the processor is below the point at
            which the machine would switch itself off, in kelvins; None where none tells.
    """

    on_battery: bool = False
    battery_percent: float | None = None
    degrees_to_critical: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How to go on.

    Attributes:
        at_once: Pictures that may be in work at the same time, >= 0; 0 is a pause.
        cause: What holds the run back; None when nothing does.
        battery_percent: As read, where the battery is the cause.
    """

    at_once: int
    cause: Literal["battery", "low battery", "heat"] | None = None
    battery_percent: float | None = None


class PacePolicy:
    """Decides from reading to reading; remembers only whether the machine was hot.

    Args:
        on_battery: "run" takes no notice of the battery, "slow" works on half as many pictures at
            a time and pauses below 20%, "pause" does nothing until a charger is connected.
        jobs: Pictures at a time when nothing holds the run back, >= 1.
        unbounded: What to answer then.
    """

    def __init__(self, on_battery: OnBattery, *, jobs: int, unbounded: int) -> None:
        self._on_battery = on_battery
        self._slow = max(1, jobs // 2)
        self._unbounded = unbounded
        self._is_hot = False
        self._is_too_hot = False

    def decide(self, reading: MachineReading) -> Decision:
        """Return how to go on; the cause is the one that holds back most."""
        self._feel(reading.degrees_to_critical)
        percent = reading.battery_percent
        if reading.on_battery and self._on_battery == "pause":
            return Decision(0, "battery", percent)
        is_slow = reading.on_battery and self._on_battery == "slow"
        if is_slow and percent is not None and percent < LOW_BATTERY_PERCENT:
            return Decision(0, "low battery", percent)
        if self._is_too_hot:
            return Decision(0, "heat")
        if is_slow:
            return Decision(self._slow, "battery", percent)
        if self._is_hot:
            return Decision(self._slow, "heat")
        return Decision(self._unbounded)

    def _feel(self, degrees_to_critical: float | None) -> None:
        if degrees_to_critical is None:
            self._is_hot = self._is_too_hot = False
            return
        hot_within = SLOW_UNTIL_DEGREES if self._is_hot else SLOW_WITHIN_DEGREES
        too_hot_within = PAUSE_UNTIL_DEGREES if self._is_too_hot else PAUSE_WITHIN_DEGREES
        self._is_hot = degrees_to_critical <= hot_within
        self._is_too_hot = degrees_to_critical <= too_hot_within


class Pace:
    """Asks the machine every few seconds, and tells when the answer changes what is done.

    Args:
        policy: Decides.
        read: Asks the machine; takes milliseconds.
        on_change: Told of each decision that differs from the one before in more than the charge;
            not of a first one that nothing holds back.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        policy: PacePolicy,
        read: Callable[[], MachineReading],
        *,
        on_change: Callable[[Decision], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._read = read
        self._on_change = on_change
        self._clock = clock
        self._decision: Decision | None = None
        self._read_at = 0.0

    def __call__(self) -> int:
        """Return how many pictures may be in work now; 0 is a pause."""
        now = self._clock()
        if self._decision is None or now - self._read_at >= self._interval(self._decision):
            self._read_at = now
            before, self._decision = self._decision, self._policy.decide(self._read())
            told = (before.at_once, before.cause) if before is not None else None
            is_news = told is not None or self._decision.cause is not None
            if is_news and told != (self._decision.at_once, self._decision.cause):
                self._on_change(self._decision)
        return self._decision.at_once

    @staticmethod
    def _interval(decision: Decision) -> float:
        return READ_EVERY_SECONDS if decision.at_once else READ_EVERY_SECONDS_WHILE_PAUSED
