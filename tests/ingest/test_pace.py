"""Battery and heat: which readings make a run slow down, wait and go on."""

from __future__ import annotations

import pytest

from siglip_search.ingest.pace import Decision, MachineReading, OnBattery, Pace, PacePolicy

FULL = 1000


def decide(on_battery: OnBattery, reading: MachineReading, jobs: int = 8) -> Decision:
    return PacePolicy(on_battery, jobs=jobs, unbounded=FULL).decide(reading)


@pytest.mark.parametrize(
    ("on_battery", "percent", "expected"),
    [
        ("run", 5.0, Decision(FULL)),
        ("slow", 90.0, Decision(4, "battery", 90.0)),
        ("slow", 20.0, Decision(4, "battery", 20.0)),
        ("slow", 19.0, Decision(0, "low battery", 19.0)),
        ("slow", None, Decision(4, "battery")),
        ("pause", 100.0, Decision(0, "battery", 100.0)),
    ],
)
def test_the_battery(on_battery: OnBattery, percent: float | None, expected: Decision) -> None:
    assert decide(on_battery, MachineReading(True, percent)) == expected


@pytest.mark.parametrize("on_battery", ["run", "slow", "pause"])
def test_with_a_charger_the_charge_does_not_matter(on_battery: OnBattery) -> None:
    assert decide(on_battery, MachineReading(False, 3.0)) == Decision(FULL)


def test_a_machine_that_tells_nothing_runs() -> None:
    assert decide("slow", MachineReading()) == Decision(FULL)


def test_one_job_is_never_made_none() -> None:
    assert decide("slow", MachineReading(True, 90.0), jobs=1).at_once == 1


def test_heat_slows_then_pauses_and_is_left_later_than_it_is_entered() -> None:
    policy = PacePolicy("run", jobs=8, unbounded=FULL)
    margins = [30.0, 9.0, 8.0, 12.0, 3.0, 6.0, 10.0, 10.5, 15.0, 15.5]
    states = [policy.decide(MachineReading(degrees_to_critical=m)).at_once for m in margins]
    assert states == [FULL, FULL, 4, 4, 0, 0, 0, 4, 4, FULL]


def test_what_holds_back_most_is_named() -> None:
    hot = MachineReading(True, 80.0, degrees_to_critical=1.0)
    assert decide("slow", hot) == Decision(0, "heat")
    assert decide("pause", hot).cause == "battery"


def test_the_machine_is_asked_now_and_then_and_news_are_told_once() -> None:
    readings = iter(
        [
            MachineReading(),
            MachineReading(True, 60.0),
            MachineReading(True, 59.0),
            MachineReading(True, 10.0),
            MachineReading(),
        ]
    )
    now = [0.0]
    told: list[Decision] = []
    pace = Pace(
        PacePolicy("slow", jobs=4, unbounded=FULL),
        lambda: next(readings),
        on_change=told.append,
        clock=lambda: now[0],
    )
    answers = []
    for now[0] in (0.0, 4.9, 5.0, 10.0, 15.0, 15.9, 16.0, 20.9):
        answers.append(pace())
    assert answers == [FULL, FULL, 2, 2, 0, 0, FULL, FULL]
    assert told == [
        Decision(2, "battery", 60.0),
        Decision(0, "low battery", 10.0),
        Decision(FULL),
    ]


def test_a_run_that_begins_on_battery_is_told_so() -> None:
    told: list[Decision] = []
    policy = PacePolicy("pause", jobs=4, unbounded=FULL)
    assert Pace(policy, lambda: MachineReading(True, 50.0), on_change=told.append)() == 0
    assert told == [Decision(0, "battery", 50.0)]
