"""The figures of `status` in Prometheus' text exposition format, version 0.0.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from siglip_search.service.state import DOINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from siglip_search.engine.library_status import LibraryStatus
    from siglip_search.service.state import ServiceState

_PREFIX = "siglip_search_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure, or one for each value of its labels.

    Attributes:
        name: Without the program's prefix; base units, and "_total" for a counter.
        kind: "counter" only grows while the daemon lives.
        meaning: One sentence.
        samples: Labels and value of each.
    """

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def exposition(library: LibraryStatus, service: ServiceState | None) -> str:
    """Return the figures as Prometheus reads them, each line ended.

    Args:
        library: What is in it.
        service: What its daemon says; None where none runs.
    """
    lines: list[str] = []
    for metric in (*_library_metrics(library), *_service_metrics(service)):
        name = _PREFIX + metric.name
        lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def _library_metrics(library: LibraryStatus) -> Iterator[Metric]:
    counts = library.counts
    yield _gauge("pictures", "Pictures in the library.", counts.pictures)
    yield _gauge("files", "Files that show them.", counts.files)
    yield _gauge("failed_files", "Files that could not be read as pictures.", counts.failed)
    yield _gauge("vanished_files", "Files that are gone from disk and kept.", counts.vanished)
    yield _gauge("online_only_files", "Files that only the cloud has.", counts.online_only)
    yield _gauge("disk_bytes", "Size of the library's own files.", library.disk_bytes)
    if library.spaces:
        yield Metric(
            "vectors",
            "gauge",
            "Vectors in each embedding space.",
            tuple(
                ({"model": usage.space.model, "space": usage.space.key}, usage.vectors)
                for usage in library.spaces
            ),
        )


def _service_metrics(state: ServiceState | None) -> Iterator[Metric]:
    yield _gauge("up", "1 while a daemon looks after the library.", state is not None)
    if state is None:
        return
    yield _gauge(
        "service_info",
        "What the daemon runs with; always 1.",
        1,
        version=state.version,
        model=state.model or "",
        device=state.device or "",
        precision=state.precision or "",
    )
    yield Metric(
        "service_doing",
        "gauge",
        "1 for what the daemon is doing, 0 for the rest.",
        tuple(({"doing": doing}, doing == state.doing) for doing in DOINGS),
    )
    if state.folders:
        yield Metric(
            "folder_followed",
            "gauge",
            "0 for a folder that is away, 1 for the others.",
            tuple(
                ({"path": folder.path, "how": folder.how}, folder.how != "away")
                for folder in state.folders
            ),
        )
    yield _gauge("start_time_seconds", "When the daemon started, Unix time.", state.started_at)
    yield _gauge("queue", "Places and pictures that wait.", state.queue)
    yield _gauge("run_done", "Pictures of the run in progress that are done.", state.done)
    yield _gauge("run_pictures", "Pictures of the run in progress.", state.total)
    yield _gauge("towers_warm", "1 while a tower is loaded.", state.towers_warm)
    # A figure that is not known is left out: 0 would be one.
    for name, meaning, value in (
        ("pictures_per_second", "Speed of the run in progress.", state.pictures_per_second),
        ("run_left_seconds", "Time left in the run in progress.", state.seconds_left),
        (
            "last_event_timestamp_seconds",
            "When a folder last changed, Unix time.",
            state.last_event_at,
        ),
        (
            "last_commit_timestamp_seconds",
            "When a batch was last on disk, Unix time.",
            state.last_commit_at,
        ),
        ("resident_memory_bytes", "Memory of the daemon.", state.memory_bytes),
    ):
        if value is not None:
            yield _gauge(name, meaning, value)
    yield _counter("embedded_total", "Pictures embedded.", state.embedded)
    yield _counter("failed_total", "Files recorded as unreadable.", state.failed)
    yield _counter("looks_total", "Runs over places that changed.", state.looks)
    yield _counter("queries_total", "Questions answered.", state.queries)


def _gauge(name: str, meaning: str, value: float, **labels: str) -> Metric:
    return Metric(name, "gauge", meaning, ((labels, value),))


def _counter(name: str, meaning: str, value: float) -> Metric:
    return Metric(name, "counter", meaning, (({}, value),))


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    # The format is UTF-8: bytes of a path that are none become replacement characters.
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
