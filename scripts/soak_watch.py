#!/usr/bin/env python3
"""Run `siglip-search watch` for a given time under churn, and report how it bore it.

Pictures are created at once, slowly, and under a temporary name; files and whole folders are
renamed and deleted; broken files lie among them. Meanwhile the daemon is asked all the time which
pictures it finds. Exit status 1 if a picture was lost or the library is not what a fresh index of
the same folder makes.

    scripts/soak_watch.py --seconds 3600 --report soak.txt

Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from siglip_search import demo
from siglip_search.search.question import Question
from siglip_search.service.client import DaemonUnavailableError, connect

COMMAND = Path(sys.executable).with_name("siglip-search")
HOSTILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "hostile"

# More pictures than these are not kept: each answer lists them all.
MOST_PICTURES = 250
# A picture is left alone until it was found, or counts as lost.
LOST_AFTER_SECONDS = 60.0
SAMPLE_SECONDS = 5.0


@dataclass
class Truth:
    """What lies on disk, and since when it was waited for; shared by two threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    found: set[Path] = field(default_factory=set)
    waiting: dict[Path, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)
    hostile: int = 0
    operations: dict[str, int] = field(default_factory=dict)

    def closed(self, path: Path) -> None:
        """Wait for a picture that is whole from now on."""
        with self.lock:
            self.waiting[path] = time.monotonic()

    def answered(self, paths: set[Path]) -> None:
        """Note which pictures were found just now."""
        now = time.monotonic()
        with self.lock:
            for path in [path for path in self.waiting if path in paths]:
                self.latencies.append(now - self.waiting.pop(path))
                self.found.add(path)
            for path, since in [*self.waiting.items()]:
                if now - since > LOST_AFTER_SECONDS:
                    self.lost.append(path)
                    del self.waiting[path]


class Churn:
    """Does one thing after another to a folder of pictures.

    Attributes:
        random: Decides what comes next, and when.
    """

    def __init__(self, root: Path, truth: Truth, seed: int) -> None:
        self._root = root
        self._truth = truth
        self.random = random.Random(seed)
        self._drawings = sorted(demo.gallery_directory().rglob("*.jpg"))
        broken = [path for path in HOSTILE.rglob("*") if path.is_file()] if HOSTILE.is_dir() else []
        self._hostile = [path for path in broken if path.stat().st_size < 1_000_000]
        self._number = 0
        self._slow: list[threading.Thread] = []
        for name in "abc":
            (root / name).mkdir()

    def step(self) -> None:
        """Do one thing."""
        deeds = [self.create] * 6 + [self.burst, self.slow, self.slow, self.part, self.part]
        deeds += [self.rename, self.delete, self.delete, self.move_folder, self.hostile]
        if len(self._truth.found) > MOST_PICTURES:
            deeds = [self.delete]
        deed = self.random.choice(deeds)
        counts = self._truth.operations
        counts[deed.__name__] = counts.get(deed.__name__, 0) + 1
        deed()

    def settle(self) -> None:
        """Wait for the slow writers."""
        for thread in self._slow:
            thread.join()

    def create(self) -> None:
        """Write a picture at once."""
        path = self._new_path()
        path.write_bytes(self._content())
        self._truth.closed(path)

    def burst(self) -> None:
        """Write pictures into a new folder in a new folder."""
        folder = self._root / f"burst-{self._number}" / "inner"
        folder.mkdir(parents=True)
        for _ in range(20):
            path = folder / f"{self._next()}.jpg"
            path.write_bytes(self._content())
            self._truth.closed(path)

    def slow(self) -> None:
        """Write a picture in pieces, as a slow copy does, while other things go on."""
        path, content = self._new_path(), self._content()

        def write() -> None:
            with path.open("wb") as file:
                for start in range(0, len(content), len(content) // 8 + 1):
                    file.write(content[start : start + len(content) // 8 + 1])
                    file.flush()
                    time.sleep(0.4)
            self._truth.closed(path)

        self._slow = [thread for thread in self._slow if thread.is_alive()]
        thread = threading.Thread(target=write)
        thread.start()
        self._slow.append(thread)

    def part(self) -> None:
        """Write a picture under a temporary name, as browsers do."""
        path = self._new_path()
        part = path.with_suffix(".jpg.part")
        part.write_bytes(self._content())
        time.sleep(0.2)
        part.rename(path)
        self._truth.closed(path)

    def rename(self) -> None:
        """Rename a picture."""
        path = self._some()
        if path is not None:
            new = self._new_path()
            path.rename(new)
            self._truth.closed(new)

    def delete(self) -> None:
        """Delete some pictures."""
        for _ in range(10):
            path = self._some()
            if path is not None:
                path.unlink()

    def move_folder(self) -> None:
        """Rename a folder that nobody waits for or writes to."""
        folder = self.random.choice([path for path in self._root.iterdir() if path.is_dir()])
        with self._truth.lock:
            if any(folder in path.parents for path in self._truth.waiting):
                return  # somebody waits for what is in it
        if any(thread.is_alive() for thread in self._slow):
            return  # or writes there
        new = self._root / f"moved-{self._next()}"
        with self._truth.lock:
            inside = {path for path in self._truth.found if folder in path.parents}
            self._truth.found -= inside
        folder.rename(new)
        for path in inside:
            self._truth.closed(new / path.relative_to(folder))

    def hostile(self) -> None:
        """Lay down a broken file."""
        self._truth.hostile += 1
        name = self._next()
        if self._hostile:
            broken = self.random.choice(self._hostile)
            shutil.copy(broken, self._folder() / f"hostile-{name}{broken.suffix}")
        else:
            cut = self._content()[: self.random.randrange(2000)]
            (self._folder() / f"hostile-{name}.jpg").write_bytes(cut)

    def _some(self) -> Path | None:
        with self._truth.lock:
            if not self._truth.found:
                return None
            path = self.random.choice(sorted(self._truth.found))
            self._truth.found.discard(path)
            return path

    def _folder(self) -> Path:
        return self.random.choice([path for path in self._root.iterdir() if path.is_dir()])

    def _new_path(self) -> Path:
        return self._folder() / f"{self._next()}.jpg"

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _content(self) -> bytes:
        """Return a drawing with a comment of its own: the same picture, another content."""
        drawing = self.random.choice(self._drawings).read_bytes()
        comment = f"soak {self._next()}".encode()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        return drawing[:2] + marker + comment + drawing[2:]


@dataclass
class Sample:
    """What the daemon and its decoding processes take at a moment."""

    seconds: float
    daemon_bytes: int
    handles: int
    threads: int


def sample(pid: int, began: float) -> Sample:
    """Read what a process takes now."""
    process = Path("/proc") / str(pid)
    pages = int((process / "statm").read_text().split()[1])
    return Sample(
        time.monotonic() - began,
        pages * os.sysconf("SC_PAGESIZE"),
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
    )


def found_by_daemon(library: Path) -> set[Path]:
    """Return every picture that the daemon finds."""
    client = connect(library)
    if client is None:
        raise DaemonUnavailableError("no daemon answers")
    with client:
        reply = client.query(Question("anything", top_k=10_000, min_probability=0.0))
    return {Path(path) for hit in reply.answer.hits for path in (hit.path, *hit.copies)}


def ask_on(library: Path, truth: Truth, stop: threading.Event, failures: list[str]) -> None:
    """Ask what is found, again and again."""
    while not stop.wait(0.1):
        try:
            truth.answered(found_by_daemon(library))
        except DaemonUnavailableError as error:
            failures.append(str(error))


def command(library: Path, *arguments: str | Path, check: bool = True) -> str:
    """Run the installed command and return what it prints."""
    done = subprocess.run(
        [COMMAND, *arguments, "--library", library],
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise SystemExit(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def listed(library: Path) -> list[str]:
    """Return everything that a library finds, without its daemon."""
    text = command(
        library, "query", "anything", "--min-probability", "0", "-n", "100000", "-0", "--all-files"
    )
    return sorted(text.split("\0"))


def quantile(values: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def soak(folder: Path, seconds: float, seed: int, pause: float) -> tuple[list[str], bool]:
    """Return the lines of the report, and whether all was well."""
    root, library = folder / "pictures", folder / "library"
    root.mkdir()
    truth, stop, failures = Truth(), threading.Event(), []
    churn = Churn(root, truth, seed)
    daemon = subprocess.Popen(
        [COMMAND, "watch", root, "--model", "demo", "--library", library],
        stderr=subprocess.DEVNULL,
    )
    began = time.monotonic()
    while connect(library) is None:
        if daemon.poll() is not None or time.monotonic() - began > 60:
            raise SystemExit("the daemon does not start")
        time.sleep(0.1)
    churn.create()
    while True:  # questions are answered once there is something to find
        try:
            found_by_daemon(library)
            break
        except DaemonUnavailableError:
            time.sleep(0.1)
    asking = threading.Thread(target=ask_on, args=(library, truth, stop, failures))
    asking.start()
    samples = []
    while time.monotonic() - began < seconds and daemon.poll() is None:
        if not samples or time.monotonic() - began - samples[-1].seconds > SAMPLE_SECONDS:
            samples.append(sample(daemon.pid, began))
        churn.step()
        time.sleep(churn.random.random() * 2 * pause)
    churn.settle()
    deadline = time.monotonic() + LOST_AFTER_SECONDS + 5
    while truth.waiting and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(8)  # deletes have no one who waits for them; then the snapshot
    samples.append(sample(daemon.pid, began))
    stop.set()
    asking.join()
    state = json.loads(command(library, "status", "--json"))["service"]
    stopped_at = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    status = daemon.wait(60)
    ending = time.monotonic() - stopped_at
    verdict = command(library, "verify", check=False)
    fresh = folder / "fresh"
    command(fresh, "index", root, "--model", "demo")
    counts = [
        {
            name: json.loads(command(place, "status", "--json"))[name]
            for name in ("pictures", "files", "failed")
        }
        for place in (library, fresh)
    ]
    is_equal = listed(library) == listed(fresh) and counts[0] == counts[1]
    is_clean = (
        subprocess.run(
            [COMMAND, "verify", "--library", library], capture_output=True, check=False
        ).returncode
        == 0
    )
    is_good = is_equal and is_clean and not truth.lost and not status and not failures
    third = max(1, len(samples) // 3)
    middle, last = (
        statistics.median(one.daemon_bytes for one in part) / 1e6
        for part in (samples[third : 2 * third] or samples, samples[-third:])
    )
    done = ", ".join(f"{name} {number}" for name, number in sorted(truth.operations.items()))
    lines = [
        f"soak_watch.py, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {seconds:.0f} s, seed {seed}",
        f"operations: {done}",
        f"pictures that were waited for: {len(truth.latencies)}, lost: {len(truth.lost)}",
        "from closed to searchable: "
        + ", ".join(
            f"{name} {quantile(truth.latencies, share):.2f} s"
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        ),
        f"daemon: {state['looks']} looks, {state['embedded']} embedded, {state['failed']} failures "
        f"recorded, {state['queries']} questions ({len(failures)} not answered)",
        f"memory of the daemon: {samples[0].daemon_bytes / 1e6:.0f} MB at first, median "
        f"{middle:.0f} MB in the second third, {last:.0f} MB in the last, "
        f"{max(one.daemon_bytes for one in samples) / 1e6:.0f} MB at most",
        f"handles: {samples[0].handles} at first, {samples[-1].handles} at the end, "
        f"{max(one.handles for one in samples)} at most; threads: {samples[-1].threads} at the end",
        f"ended with status {status} in {ending:.2f} s",
        f"verify: {'clean' if is_clean else verdict.strip()}",
        f"the library and a fresh index: {'equal' if is_equal else 'DIFFERENT'} {counts}",
        *(f"lost: {path}" for path in truth.lost[:20]),
        *(f"not answered: {failure}" for failure in failures[:5]),
    ]
    if not is_equal:
        difference = set(listed(library)) ^ set(listed(fresh))
        lines += [f"differs: {path}" for path in sorted(difference)[:20]]
    return lines, is_good


def main() -> None:
    """Run, print, and exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.4, help="mean seconds between operations")
    parser.add_argument("--report", type=Path, help="where the report is written as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-watch-") as name:
        lines, is_good = soak(
            Path(name).resolve(), arguments.seconds, arguments.seed, arguments.pause
        )
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
