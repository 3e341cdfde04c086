"""What a run tells its listener comes through the daemon unchanged."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from siglip_search.engine.cheaper_choices import Choice
from siglip_search.engine.indexing import Estimate, IndexListener
from siglip_search.ingest.pace import Decision
from siglip_search.ingest.report import Committed, Failure, IngestReport, Progress
from siglip_search.service.index_events import listener_for, tell
from siglip_search.service.messages import report_from_object, report_object


def test_each_event_comes_as_it_was_told() -> None:
    told: list[tuple[str, Any]] = []
    listener = IndexListener(
        **{
            field.name: lambda fact, name=field.name: told.append((name, fact))
            for field in fields(IndexListener)
        }
    )
    events: list[dict[str, Any]] = []
    said: list[tuple[str, Any]] = [
        ("on_scanned", 12),
        ("on_estimate", Estimate(9, 3.5, "other", (Choice("--newest 5", 1.0, "fewer"),))),
        ("on_progress", Progress(3, 9)),
        (
            "on_commit",
            Committed((b"/caf\xe9 \xff", b"/b"), (Failure(b"/\xfe", "torn"),), embedded=2),
        ),
        ("on_pace", Decision(0, "low battery", 12.5)),
        ("on_tagging", Progress(20, 317)),
    ]
    passed_on = listener_for(events.append)
    for name, fact in said:
        getattr(passed_on, name)(fact)
    for event in events:
        tell(json.loads(json.dumps(event)), listener)
    assert told == said


def test_an_event_of_a_newer_daemon_is_passed_over_and_nonsense_is_not() -> None:
    tell({"event": "sung", "song": 3}, IndexListener())
    with pytest.raises(ValueError, match="no event"):
        tell({"event": "progress", "left": 3}, IndexListener())


def test_a_report_comes_as_it_was_made() -> None:
    report = IngestReport(
        added=2,
        failed=1,
        missing_extras={"raw": 2},
        model="demo",
        seconds=0.1 + 0.2,
        failures=[Failure(b"/photos/\xff.jpg", "torn")],
        warnings=["a drive is away"],
    )
    assert report_from_object(json.loads(json.dumps(report_object(report)))) == report
    with pytest.raises(ValueError, match="no report"):
        report_from_object({"added": 2})
