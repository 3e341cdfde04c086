"""What a run did, as plain values that a person or a program can read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be read as a picture.

    Attributes:
        path: Absolute path, bytes as on disk.
        reason: One line for a person.
        try_again: Nothing is wrong with the picture as far as is known: it was being written, was
            locked or refused, and the next look may find it whole.
    """

    path: bytes
    reason: str
    try_again: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Files read so far.
        total: Files to read in this run.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch that is safely on disk: issued after COMMIT returned, never before.

    Attributes:
        paths: Absolute paths of the pictures of the batch.
        failures: Files of the batch that are recorded as unreadable.
        embedded: How many vectors the batch added.
    """

    paths: tuple[bytes, ...]
    failures: tuple[Failure, ...]
    embedded: int


@dataclass(slots=True)
class IngestReport:
    """Counts of one run.

    `seen` = `added` + `changed` + `moved` + `unchanged` + `failed` + `ignored` + `companions`.

    Attributes:
        added: New paths whose picture is in the library now (copies included).
        changed: Known paths with new content.
        moved: New paths of a content whose former path is gone.
        unchanged: Known paths with nothing to do.
        failed: Files that cannot be read as pictures, now or since an earlier run.
        ignored: Files that are no pictures.
        companions: Files that belong to a picture: RAWs beside it, its film, its sidecars.
        online_only: Files that only the cloud has and of which nothing is known; not in `seen`.
        missing_extras: How many of the ignored files are pictures that an extra would read, by
            the extra.
        pending: Files left for the next run because this one was stopped; not in `seen`.
        removed: Known paths that are gone from disk.
        unreachable: Known paths kept although they cannot be seen (a drive is away).
        copies: Paths, among those added or changed, whose content the library has under another.
        embedded: Vectors computed.
        metadata_read: Known pictures whose metadata were read again, and nothing embedded.
        tagged: Pictures compared with the labels that were chosen with `tag`.
        seconds: Wall-clock time of the run.
        stopped: True when the run was asked to stop before it was complete.
        model: Name of the model that answers after the run.
        switched: True when another model has taken over in this run.
        switching_to: Name of the model that is to take over once it has embedded every picture;
            None when none is.
        left_to_switch: Pictures that it has not embedded yet.
        failures: Every file counted in `failed`, with its reason.
        warnings: One line each about what was not looked at, and why, or about a device that
            failed.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    failed: int = 0
    ignored: int = 0
    companions: int = 0
    online_only: int = 0
    missing_extras: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    removed: int = 0
    unreachable: int = 0
    copies: int = 0
    embedded: int = 0
    metadata_read: int = 0
    tagged: int = 0
    seconds: float = 0.0
    stopped: bool = False
    model: str | None = None
    switched: bool = False
    switching_to: str | None = None
    left_to_switch: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Number of files that the run has dealt with."""
        pictures = self.added + self.changed + self.moved + self.unchanged + self.failed
        return pictures + self.ignored + self.companions
