"""What daemon and commands say to one another: plain values, and JSON for each.

A connection is one conversation. The daemon greets, the command makes one request, and the daemon
sends any number of events and then one reply or one error. A command that has asked for an index
may send `CANCEL` meanwhile; one that asked the daemon to step aside says `DONE`, or just leaves.

JSON is written in ASCII: a path that is not text survives as escaped surrogates, both ways.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from siglip_search.search.ranking import Answer, Hit

if TYPE_CHECKING:
    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.ingest.report import IngestReport
    from siglip_search.search.question import Question

# Raised when an older side would misunderstand; a daemon and a command of different numbers do not
# talk. Stepping aside and stopping are understood between versions of the program.
PROTOCOL: Final = 2

CANCEL: Final = {"say": "cancel"}
DONE: Final = {"say": "done"}


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the daemon says first.

    Attributes:
        protocol: See `PROTOCOL`.
        version: Of the program.
        pid: The daemon's process.
        package: Folder of the code that it runs; empty when that was exchanged since it started.
    """

    protocol: int
    version: str
    pid: int
    package: str


@dataclass(frozen=True, slots=True)
class QueryReply:
    """What a question found.

    Attributes:
        answer: The hits.
        notice: What has to be said wherever the model's results are shown.
    """

    answer: Answer
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class IndexJob:
    """A run of `index` that a command hands over.

    Attributes:
        paths: Absolute; bytes that are not text stand in them as os.fsdecode leaves them. Empty
            for every indexed folder.
        options: As the command line and the settings of the command say. The device among them
            does not count: towers run where the daemon has them.
    """

    paths: tuple[str, ...]
    options: IndexOptions


def greeting_from_object(value: dict[str, Any]) -> Greeting:
    """Return a greeting.

    Raises:
        ValueError: It is none.
    """
    match value:
        case {
            "protocol": int(protocol),
            "version": str(version),
            "pid": int(pid),
            "package": str(package),
        }:
            return Greeting(protocol, version, pid, package)
    raise ValueError("no greeting of a daemon")


def question_received(value: dict[str, Any]) -> Question:
    """Return a question that a command has asked.

    Raises:
        QueryError: It is none.
        ValueError: It names a picture that is no absolute path.
    """
    from siglip_search.search.question_object import question_from_object

    question = question_from_object(value)
    # What is not absolute would mean another place in the daemon's working directory.
    if not all(map(os.path.isabs, question.like)):
        raise ValueError("a picture of the question has no absolute path")
    return question


def reply_object(reply: QueryReply) -> dict[str, Any]:
    """Return an answer as JSON knows it."""
    return asdict(reply)


def reply_from_object(value: dict[str, Any]) -> QueryReply:
    """Return an answer.

    Raises:
        ValueError: It is none.
    """
    try:
        answer = dict(value["answer"])
        hits = tuple(Hit(**_with_tuples(hit)) for hit in answer.pop("hits"))
        return QueryReply(Answer(hits, **answer), value["notice"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"no answer to a question: {error}") from error


def job_object(job: IndexJob) -> dict[str, Any]:
    """Return a run of `index` as JSON knows it."""
    return {"paths": job.paths, "options": asdict(job.options)}


def job_from_object(value: dict[str, Any]) -> IndexJob:
    """Return a run of `index`.

    Raises:
        ValueError: It is none.
    """
    from siglip_search.engine.indexing import IndexOptions

    try:
        paths = tuple(value["paths"])
        # What is not absolute would mean another place in the daemon's working directory.
        if not all(isinstance(path, str) and os.path.isabs(path) for path in paths):
            raise ValueError("a path to index is not absolute")
        options = IndexOptions(**_with_tuples(value["options"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no run of index: {error}") from error
    return IndexJob(paths, options)


def report_object(report: IngestReport) -> dict[str, Any]:
    """Return the report of a run as JSON knows it; `index --json` prints this."""
    counts = {
        field.name: getattr(report, field.name)
        for field in fields(report)
        if field.name not in {"failures", "warnings"}
    }
    failures = [
        {"path": os.fsdecode(failure.path), "reason": failure.reason} for failure in report.failures
    ]
    return {"seen": report.seen, **counts, "failures": failures, "warnings": report.warnings}


def report_from_object(value: dict[str, Any]) -> IngestReport:
    """Return the report that `report_object` made this of.

    Raises:
        ValueError: It is none.
    """
    from siglip_search.ingest.report import Failure, IngestReport

    try:
        known = {field.name: value[field.name] for field in fields(IngestReport)}
        known["failures"] = [
            Failure(os.fsencode(failure["path"]), failure["reason"])
            for failure in known["failures"]
        ]
        return IngestReport(**known)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no report of a run: {error}") from error


def _with_tuples(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts as the frozen values have them: JSON knows no tuples."""
    return {name: tuple(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
