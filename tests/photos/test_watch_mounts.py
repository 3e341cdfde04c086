"""Where events do not suffice, by the kinds of what is mounted."""

import os
import sys
from pathlib import Path

import pytest

from siglip_search.photos import linux_mounts
from siglip_search.photos.linux_mounts import parse_mountinfo
from siglip_search.photos.watch import LOOK_AGAIN, FolderWatch
from siglip_search.photos.watch_mounts import mounts_below, polling_reason

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the table of mounts of Linux")

_TABLE = b"""\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/nas rw - nfs4 server:/photos rw
31 22 0:41 / /mnt/nas/local rw - ext4 /dev/sdb1 rw
32 22 0:42 / /mnt/phone rw - fuse.jmtpfs jmtpfs rw
33 22 0:43 / /mnt/windows rw - fuseblk /dev/sdc1 rw
34 22 0:44 / /mnt/c rw - 9p drvfs rw
35 22 0:45 / /mnt/share rw - cifs //server/photos rw
"""


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_mounts, "mounts", lambda: parse_mountinfo(_TABLE))


@linux_only
@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/home/me/Pictures", None),
        (b"/mnt/nas", "nfs4"),
        (b"/mnt/nas/2020", "nfs4"),
        (b"/mnt/nasty", None),
        (b"/mnt/nas/local/2020", None),
        (b"/mnt/phone/DCIM", "fuse.jmtpfs"),
        (b"/mnt/windows/Pictures", None),
        (b"/mnt/c/Users", "9p"),
        (b"/mnt/share", "cifs"),
    ],
)
def test_what_others_change_is_polled(path: bytes, kind: str | None) -> None:
    reason = polling_reason(path)
    assert (reason is None) == (kind is None)
    assert kind is None or reason == f"{kind} tells nothing of changes that are made elsewhere"


@linux_only
@pytest.mark.usefixtures("mounted")
def test_mounts_below_are_known_with_those_that_need_polling() -> None:
    below = mounts_below(b"/mnt")
    assert len(below) == 6
    assert below[b"/mnt/nas"] == "nfs4 is mounted at /mnt/nas"
    assert below[b"/mnt/windows"] is None
    assert mounts_below(b"/mnt/nas") == {b"/mnt/nas/local": None}


@linux_only
def test_a_share_below_a_followed_folder_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:4 / %s/nas rw - nfs4 server:/x rw\n"
    monkeypatch.setattr(
        linux_mounts, "mounts", lambda: parse_mountinfo(table % os.fsencode(tmp_path))
    )
    lost: list[tuple[bytes, str]] = []
    watch = FolderWatch(
        on_change=lambda *_: None,
        on_lost=lambda path, why: lost.append((path, why)),
        poll_seconds=0,
    )
    watch.follow(os.fsencode(tmp_path))
    (state,) = watch.states()
    watch.check()
    watch.close()
    assert state.how == "events"
    assert state.why == f"nfs4 is mounted at {tmp_path}/nas"
    assert lost == [(os.fsencode(tmp_path / "nas"), LOOK_AGAIN)]


@linux_only
@pytest.mark.usefixtures("mounted")
def test_polling_can_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = b"1 0 8:1 / / rw - nfs4 server:/ rw\n"
    monkeypatch.setattr(linux_mounts, "mounts", lambda: parse_mountinfo(table))
    watch = FolderWatch(on_change=lambda *_: None, on_lost=lambda *_: None)
    hows = []
    for poll in (None, False, True):
        watch.follow(os.fsencode(tmp_path), poll=poll)
        hows += [state.how for state in watch.states()]
    watch.close()
    assert hows == ["polling", "events", "polling"]
