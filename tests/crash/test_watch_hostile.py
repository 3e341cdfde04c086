"""The daemon among files that want to crash it, hang it or fill its memory."""

from __future__ import annotations

import binascii
import os
import shutil
import struct
import sys
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
from crash.watched_command import add_drawing, children_of, files_in, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crash.watched_command import WatchedCommand
    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MEGABYTE = 2**20
# The daemon itself decodes nothing: interpreter, libraries, towers of the small model.
MOST_DAEMON_BYTES = 400 * MEGABYTE
# What one picture may take (`DecodeLimits.max_memory_bytes`), and the libraries beside that.
MOST_DECODER_BYTES = 2400 * MEGABYTE


# Of a picture of 60,000 x 60,000 pixels, which are not there.
BMP_HEADER = struct.pack("<4I2i2H6I", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)


class Memory:
    """Watches how much memory a daemon and its decoders take."""

    def __init__(self, pid: int) -> None:
        self.daemon = self.decoder = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.daemon = max(self.daemon, resident_bytes(self._pid))
            children = [resident_bytes(child) for child in children_of(self._pid)]
            self.decoder = max(self.decoder, *children, 0)

    def judge(self) -> None:
        self._stop.set()
        self._thread.join()
        assert 0 < self.daemon < MOST_DAEMON_BYTES
        assert self.decoder < MOST_DECODER_BYTES


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", binascii.crc32(body))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def zeros(number: int) -> bytes:
    """Return so many zeros, compressed."""
    packer = zlib.compressobj(1)
    block = bytes(MEGABYTE)
    parts = [packer.compress(block) for _ in range(number // MEGABYTE)]
    return b"".join([*parts, packer.compress(bytes(number % MEGABYTE)), packer.flush()])


def lay_bombs(folder: Path) -> int:
    """Put files that mean harm into a folder; return how many are files that can be read."""
    bombs = {
        "bomb.png": png(20_000, 20_000, zeros(20_000 * 20_001)),
        "many-pixels.png": png(60_000, 60_000, zeros(1000)),
        "text.png": png(16, 16, zeros(16 * 17))[:33] + chunk(b"zTXt", b"a\0\0" + zeros(2**28)),
        "header.bmp": b"BM" + BMP_HEADER,
        "empty.jpg": b"",
        "noise.jpg": os.urandom(5000),
        "start.jpg": b"\xff\xd8\xff",
        "frames.gif": b"GIF89a" + b"\xff\xff\xff\xff\0\0\0" + b"!\xf9\x04" * 9999,
        "new\nline.jpg": b"\xff\xd8",
    }
    for name, content in bombs.items():
        (folder / name).write_bytes(content)
    (folder / os.fsdecode(b"bytes-\xff.jpg")).write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "inner").mkdir()
    (folder / "inner" / "outside").symlink_to(folder, target_is_directory=True)
    (folder / "endless.jpg").symlink_to("/dev/zero")
    return len(bombs) + 1


def test_bombs_harm_nobody(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path
) -> None:
    watched = watch("--model", "demo", pictures)
    watched.says("caught up")
    memory = Memory(watched.process.pid)
    bombs = lay_bombs(pictures)
    new = add_drawing(pictures, 12)
    watched.wait(lambda: watched.state()["looks"] > 0 and watched.is_idle(), seconds=120)
    drawings = [path for path in files_in(pictures) if path.name.startswith("drawing-")]
    assert new in drawings
    watched.finds(*drawings)
    # It goes on as if nothing had been there.
    watched.finds(*drawings, add_drawing(pictures, 13))
    watched.end()
    memory.judge()
    # Every file is accounted for.
    report = cli.index(pictures)
    assert (report["added"], report["removed"], report["pending"]) == (0, 0, 0)
    assert (report["unchanged"], report["failed"]) == (len(drawings) + 1, bombs)
    cli.verify()


@pytest.mark.slow
def test_a_file_without_end_is_given_up(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path
) -> None:
    with (pictures / "sparse.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(10 * 2**30)
    watched = watch("--model", "demo", pictures)
    memory = Memory(watched.process.pid)
    # It has a minute's time three times, unless it is seen sooner to be no picture.
    watched.wait(lambda: any("sparse.jpg" in line for line in watched.lines), seconds=240)
    watched.finds(*[path for path in files_in(pictures) if path.name != "sparse.jpg"])
    watched.end()
    memory.judge()


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_hostile_picture_there_is(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path, shared_data: Path
) -> None:
    watched = watch("--model", "demo", pictures)
    watched.says("caught up")
    memory = Memory(watched.process.pid)
    hostile = sorted(path for path in (shared_data / "hostile").rglob("*") if path.is_file())
    for number, path in enumerate(hostile):
        shutil.copy(path, pictures / f"{number:04}-{path.name}")
    last = add_drawing(pictures, 12)
    watched.wait(lambda: str(last) in cli.paths("anything", "--min-probability", "0", "-n", "9999"))
    watched.wait(watched.is_idle, seconds=240)
    watched.end()
    memory.judge()
    report = cli.index(pictures)
    assert (report["added"], report["removed"], report["pending"]) == (0, 0, 0)
    assert report["seen"] == len(files_in(pictures))
    cli.verify()
