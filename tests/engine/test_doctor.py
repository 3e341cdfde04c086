"""What the doctor finds in conditions that are really there: made in a folder for the test."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import tomllib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from stored_samples import fill

from siglip_index import open_store
from siglip_index.records import FileEntry, Fingerprint
from siglip_search.engine import (
    doctor_checks_library,
    doctor_checks_machine,
    doctor_checks_models,
    doctor_checks_places,
    doctor_checks_program,
    doctor_checks_roots,
)
from siglip_search.engine.doctor import examine, run_check
from siglip_search.engine.doctor_finding import Check, Finding, Subject
from siglip_search.errors import SettingsError
from siglip_search.photos.optional_formats import install_line
from siglip_search.settings import Settings, load_settings, models_directory, settings_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")


def subject_at(library: Path, **changes: object) -> Subject:
    return Subject(Settings(library), **changes)  # type: ignore[arg-type]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of three pictures in a folder beside it that really has them."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.jpg").write_bytes(b"x")
    directory = tmp_path / "library"
    with open_store(directory, writable=True) as store:
        fill(store, 3, root=os.fsencode(pictures))
        store.write_snapshot()
    return directory


def examined(library: Path) -> Subject:
    return doctor_checks_library.with_library(subject_at(library))


def root_finding(subject: Subject) -> Finding:
    assert subject.library is not None
    (facts,) = subject.library.roots
    (finding,) = doctor_checks_roots.look_at_root(subject, facts)
    return finding


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


@contextmanager
def as_another_user() -> Iterator[None]:
    """Lose root's rights, which know no permissions; any other user keeps his own."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_this_machine_is_examined_without_a_traceback_and_nothing_is_written(
    library: Path, isolated_home: Path
) -> None:
    def everything() -> set[tuple[str, int]]:
        folders = (library, library.parent / "pictures", isolated_home)
        return {
            (str(path), path.stat().st_mtime_ns)
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }

    before = everything()
    told = []
    sections = examine(subject_at(library), on_section=told.append)
    assert everything() == before
    assert told == sections
    found = {one.name: one for section in sections for one in section.findings}
    assert not [one for one in found.values() if "could not be examined" in one.what]
    assert not [one for one in found.values() if "\n" in f"{one.what}{one.remedy}"]
    assert found["library"].what.startswith("3 pictures in 3 files")
    assert found[str(library.parent / "pictures")].verdict == "good"
    # Made up, and so installed nowhere.
    assert found["the library's model"].verdict == "bad"


def test_a_check_that_fails_is_a_finding() -> None:
    def broken(_: Subject) -> Iterable[Finding]:
        yield Finding("first", "good", "before it fails")
        raise ZeroDivisionError("by\nnothing")

    found = run_check(Check("a", "broken", broken), subject_at(Path("nowhere")))
    assert [(one.name, one.verdict) for one in found] == [("first", "good"), ("broken", "bad")]
    assert found[1].what == "could not be examined: ZeroDivisionError: by nothing"


def test_what_does_not_answer_is_left_behind() -> None:
    def hanging(_: Subject) -> Iterable[Finding]:
        time.sleep(5)
        return []

    found = run_check(Check("a", "share", hanging, 0.05), subject_at(Path("nowhere")))
    assert [(one.name, one.verdict, one.what) for one in found] == [
        ("share", "bad", "no answer in 0.05 s")
    ]


def test_a_mistake_in_the_settings(tmp_path: Path) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("jobs = 0\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    subject = subject_at(tmp_path, settings_error=caught.value)
    finding = only(doctor_checks_places.look_at_settings(subject))
    assert (finding.verdict, finding.remedy) == ("bad", "Write for example: jobs = 2")
    assert str(settings_file()) in finding.what


def test_a_mistake_in_the_users_own_models(tmp_path: Path) -> None:
    file = settings_file().with_name("models.toml")
    file.parent.mkdir(parents=True)
    file.write_text("[[model]]\nname = 3\n")
    finding = only(doctor_checks_places.look_at_own_models(subject_at(tmp_path)))
    assert finding.verdict == "bad"
    assert finding.remedy


@POSIX
def test_folders_that_cannot_be_written_or_read(open_folder: Path) -> None:
    library = open_folder / "library"
    library.mkdir()

    def finding(path: Path) -> Finding:
        with as_another_user():
            return next(iter(doctor_checks_places.look_at_permissions(subject_at(path))))

    library.chmod(0o555)
    assert finding(library).what == f"{library} cannot be written"
    assert finding(library / "deep" / "er").what == f"{library / 'deep' / 'er'} cannot be made"
    library.chmod(0o000)
    assert finding(library).what == f"{library} cannot be read"
    assert "chown" in str(finding(library).remedy)
    library.chmod(0o777)
    assert finding(library).verdict == "good"
    library.rmdir()
    library.write_text("")
    assert finding(library).what == f"{library} is a file"


@POSIX
def test_files_that_sudo_left_in_the_library(open_folder: Path) -> None:
    (open_folder / "library.sqlite3").write_bytes(b"")
    (open_folder / "library.sqlite3").chmod(0o400 if os.geteuid() == 0 else 0o000)
    open_folder.chmod(0o777)
    with as_another_user():
        found = list(doctor_checks_places.look_at_permissions(subject_at(open_folder)))
    (files,) = (one for one in found if one.name == "library files")
    assert files.verdict == "bad"
    assert "library.sqlite3 cannot be read and written" in files.what
    assert "chown -R" in str(files.remedy)


@POSIX
def test_a_runtime_folder_that_others_can_look_into(tmp_path: Path) -> None:
    folder = tmp_path / "siglip-search"
    subject = subject_at(tmp_path, runtime_directory=folder)
    assert only(doctor_checks_places.look_at_runtime_folder(subject)).verdict == "good"
    folder.mkdir(mode=0o755)
    finding = only(doctor_checks_places.look_at_runtime_folder(subject))
    assert (finding.verdict, finding.remedy) == ("note", f"chmod 700 {folder}")
    folder.chmod(stat.S_IRWXU)
    assert only(doctor_checks_places.look_at_runtime_folder(subject)).verdict == "good"


def test_a_disk_with_little_room(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(free: int) -> str:
        usage = SimpleNamespace(total=10**12, used=0, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        return next(iter(doctor_checks_places.look_at_free_space(examined(library)))).verdict

    assert [verdict(free) for free in (10**6, 3 * 10**8, 10**10)] == ["bad", "note", "good"]


def test_a_library_in_a_folder_that_is_synchronised(tmp_path: Path) -> None:
    inside = tmp_path / "OneDrive - Family" / "library"
    finding = only(doctor_checks_places.look_at_file_system(subject_at(inside)))
    assert finding.verdict == "note"
    assert "OneDrive - Family" in finding.what
    assert only(doctor_checks_places.look_at_file_system(subject_at(tmp_path))).verdict == "good"


def test_no_library_and_a_damaged_one(tmp_path: Path) -> None:
    subject = examined(tmp_path / "library")
    assert only(doctor_checks_library.look_at_library(subject)).verdict == "note"
    (tmp_path / "library.sqlite3").write_bytes(b"no database" * 1000)
    finding = only(doctor_checks_library.look_at_library(examined(tmp_path)))
    assert finding.verdict == "bad"
    assert finding.remedy


def test_a_snapshot_that_was_changed(library: Path) -> None:
    assert only(doctor_checks_library.look_at_snapshots(examined(library))).what.startswith("1 ")
    (file,) = library.glob("*.faiss")
    file.write_bytes(file.read_bytes()[:-1])
    finding = only(doctor_checks_library.look_at_snapshots(examined(library)))
    assert (finding.verdict, finding.remedy) == ("note", "siglip-search verify --repair")
    (manifest,) = library.glob("vectors-*.json")
    manifest.write_text("{")
    assert only(doctor_checks_library.look_at_snapshots(examined(library))).verdict == "note"


def test_temporary_files_count_once_they_are_old(library: Path) -> None:
    left = library / "vectors-1-9-abcdef.faiss.tmp"
    left.write_bytes(b"x" * 2_000_000)
    assert only(doctor_checks_library.look_for_leftovers(examined(library))).verdict == "good"
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    finding = only(doctor_checks_library.look_for_leftovers(examined(library)))
    assert finding.what == "1 temporary file of an interrupted run (2 MB)"
    assert left.exists()


def test_a_clock_before_the_newest_commit_and_pictures_from_the_future(library: Path) -> None:
    assert only(doctor_checks_library.look_at_clock(examined(library))).verdict == "good"
    tomorrow = time.time() + 2 * 86_400
    with open_store(library, writable=True) as store, store.write() as writer:
        (root,) = store.roots()
        (first, *_) = store.files(root.id)
        assert first.photo_id is not None
        later = Fingerprint(1, int(tomorrow * 1e9))
        writer.link_files(first.photo_id, [FileEntry(root.id, b"later.jpg", later, 42)])
    os.utime(library / "library.sqlite3", (tomorrow, tomorrow))
    clock, times = doctor_checks_library.look_at_clock(examined(library))
    assert clock.verdict == "bad"
    assert times.what == "1 pictures claim to have been changed in the future"


def test_a_root_that_is_gone_empty_or_without_its_drive(library: Path) -> None:
    pictures = library.parent / "pictures"
    subject = examined(library)
    assert root_finding(subject).what.startswith("there, readable")
    shutil.rmtree(pictures)
    gone = root_finding(subject)
    assert gone.verdict == "bad"
    assert gone.remedy is not None
    assert "siglip-search forget" in gone.remedy
    assert subject.library is not None
    (facts,) = subject.library.roots
    away = replace(facts, root=replace(facts.root, volume="serial:0BAD-CAFE"))
    (finding,) = doctor_checks_roots.look_at_root(subject, away)
    assert (finding.verdict, finding.what.split(";")[0]) == (
        "note",
        "its drive or share is not connected",
    )
    pictures.mkdir()
    assert root_finding(subject).what.startswith("empty, though the library knows pictures")
    pictures.rmdir()
    pictures.write_bytes(b"one picture")
    assert root_finding(subject).verdict == "good"


@POSIX
def test_a_root_that_may_not_be_listed(open_folder: Path, library: Path) -> None:
    subject = examined(library)
    assert subject.library is not None
    (facts,) = subject.library.roots
    open_folder.chmod(0o700 if os.geteuid() == 0 else 0o000)
    closed = replace(facts, root=replace(facts.root, path=os.fsencode(open_folder)))
    with as_another_user():
        (finding,) = doctor_checks_roots.look_at_root(subject, closed)
    assert (finding.verdict, finding.what) == ("bad", "cannot be read: Permission denied")
    # Not by opening somebody's pictures to everyone.
    assert "o+r" not in str(finding.remedy)
    if sys.platform == "linux":
        let_in = "setfacl" if os.geteuid() == 0 else "chmod u+rX"
        assert let_in in str(finding.remedy)


def test_a_refusal_by_macos_names_the_pane(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    subject = examined(library)

    def refused(path: object) -> Iterator[os.DirEntry[bytes]]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "scandir", refused)
    finding = root_finding(subject)
    monkeypatch.undo()
    assert finding.verdict == "bad"
    assert str(finding.remedy).startswith("System Settings > Privacy & Security")


def test_confined_programs_are_told_how_to_get_out(tmp_path: Path) -> None:
    assert doctor_checks_roots.confinement({}, tmp_path) is None
    snap = doctor_checks_roots.confinement({"SNAP_NAME": "photos"}, tmp_path)
    assert snap == "sudo snap connect photos:removable-media"
    (tmp_path / ".flatpak-info").write_text("")
    flatpak = doctor_checks_roots.confinement({"FLATPAK_ID": "org.x.Y"}, tmp_path)
    assert flatpak == "flatpak override --user --filesystem=FOLDER org.x.Y, then start it anew"


@POSIX
def test_two_roots_that_are_one_by_a_link(library: Path) -> None:
    link = library.parent / "link"
    link.symlink_to(library.parent / "pictures")
    assert only(doctor_checks_roots.look_for_same_folders(examined(library))).verdict == "good"
    with open_store(library, writable=True) as store, store.write() as writer:
        writer.ensure_root(os.fsencode(link), 42)
    finding = only(doctor_checks_roots.look_for_same_folders(examined(library)))
    assert finding.verdict == "note"
    assert "by way of a link" in finding.what


def test_models_that_are_damaged_or_unfinished(tiny_model: Path, tmp_path: Path) -> None:
    subject = subject_at(tmp_path)
    assert [one.verdict for one in doctor_checks_models.look_at_installed(subject)] == ["good"]
    added = models_directory() / "tiny"
    shutil.copytree(tiny_model, added)
    spec = doctor_checks_models.load_model_folder(added)
    assert doctor_checks_models.damage_of(spec) is None
    tower = spec.vision_path
    whole = tower.read_bytes()

    def finding() -> Finding:
        found = list(doctor_checks_models.look_at_installed(subject))
        return next(one for one in found if one.name in {"model tiny", f"model {spec.name}"})

    assert finding().verdict == "good"
    tower.write_bytes(whole[: len(whole) // 2])
    assert "is no ONNX model, or not all of one" in finding().what
    tower.write_bytes(b"")
    assert finding().what == f"{tower} is empty"
    tower.unlink()
    assert finding().verdict == "bad"
    (models_directory() / ".pulling-siglip-base-patch16-384").mkdir()
    *_, unfinished = doctor_checks_models.look_at_installed(subject)
    assert unfinished.what.startswith("siglip-base-patch16-384 has been fetched in part")


def test_the_librarys_model_is_missing_or_another_version(library: Path) -> None:
    subject = examined(library)
    missing = only(doctor_checks_models.look_at_chosen(subject))
    assert missing.verdict == "bad"
    assert missing.what == "sample, which answers, is not installed"
    assert subject.library is not None
    assert subject.library.active is not None
    other = replace(subject.library, active=replace(subject.library.active, model="demo"))
    version = only(doctor_checks_models.look_at_chosen(replace(subject, library=other)))
    assert "is installed in another version" in version.what
    assert "siglip-search model use demo" in str(version.remedy)


def test_a_device_that_the_settings_ask_for_in_vain(tmp_path: Path) -> None:
    reports = {report.name: report for report in doctor_checks_machine.list_devices()}
    subject = Subject(Settings(tmp_path, device="npu"))
    found = {one.name: one for one in doctor_checks_machine.look_at_devices(subject)}
    assert found["device cpu"].verdict == "good"
    assert found["device npu"].verdict == ("good" if reports["npu"].usable else "bad")


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' files")
def test_memory_battery_and_heat_as_linux_tells_them(tmp_path: Path) -> None:
    processes, system = tmp_path / "proc", tmp_path / "sys"
    subject = Subject(Settings(tmp_path, jobs=4), processes=processes, system=system)
    processes.mkdir()

    def memory(kilobytes: int) -> str:
        (processes / "meminfo").write_text(f"MemAvailable: {kilobytes} kB\n")
        return only(doctor_checks_machine.look_at_memory(subject)).verdict

    assert [memory(kilobytes) for kilobytes in (400_000, 2_000_000, 9_000_000)] == [
        "bad",
        "note",
        "good",
    ]
    battery = system / "class" / "power_supply" / "BAT0"
    battery.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("status", "Discharging"), ("capacity", "64")):
        (battery / name).write_text(text)
    zone = system / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    for name, text in (
        ("type", "x86_pkg_temp"),
        ("temp", "95000"),
        ("trip_point_0_type", "critical"),
        ("trip_point_0_temp", "100000"),
    ):
        (zone / name).write_text(text)
    power, heat = doctor_checks_machine.look_at_power(subject)
    assert power.what == "on battery at 64%: `index` goes at half speed"
    assert (heat.verdict, heat.what[:4]) == ("note", "5 °C")


def test_every_extra_for_users_is_known() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    assert set(doctor_checks_program.EXTRAS) == extras - {"test", "reference"}


def test_an_extra_that_pictures_wait_for(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = replace(doctor_checks_program.EXTRAS["raw"], modules=("not_there_at_all",))
    monkeypatch.setitem(doctor_checks_program.EXTRAS, "raw", raw)
    subject = examined(library)
    assert subject.library is not None

    def finding(*reasons: str) -> Finding:
        assert subject.library is not None
        waiting = replace(subject.library, failures=frozenset(reasons))
        return next(iter(doctor_checks_program.look_at_extras(replace(subject, library=waiting))))

    assert finding().verdict == "good"
    waiting = finding(f"a RAW file: {install_line('raw')}")
    assert waiting.verdict == "note"
    assert "[" in str(waiting.remedy)


def test_extras_are_installed_as_the_program_was(tmp_path: Path) -> None:
    def line() -> str:
        return doctor_checks_program.installation(["jxl", "raw"], tmp_path)

    assert line().endswith('-m pip install "siglip-search[raw]"')
    (tmp_path / "uv-receipt.toml").write_text("")
    assert line() == 'uv tool install --force "siglip-search[jxl,raw]"'
    (tmp_path / "pipx_metadata.json").write_text(json.dumps({}))
    assert line() == 'pipx install --force "siglip-search[jxl,raw]"'
