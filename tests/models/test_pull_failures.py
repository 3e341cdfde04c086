"""What goes wrong on the way from the hub, and that nothing is fetched twice for it."""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stand_in_hub import Hub

from siglip_search.errors import DownloadError, ModelError
from siglip_search.models.files import remove_model
from siglip_search.models.hub_errors import hub_errors
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import find_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Puller

WEIGHTS = "google/tiny/model.safetensors"
TOKENIZER = "google/tiny/spiece.model"
VISION, TEXT = "Xenova/tiny/onnx/vision_model.onnx", "Xenova/tiny/onnx/text_model.onnx"


@pytest.fixture
def large_vision(hub: Hub) -> bytes:
    """A tower of two megabytes: what follows the graph is one more field that nobody reads."""
    tower = hub.files[VISION]
    assert isinstance(tower, bytes)
    filling = bytes(range(256)) * 8192
    # Field 6 of ModelProto is a text of documentation.
    hub.files[VISION] = tower + b"\x32\x80\x80\x80\x01" + filling
    return tower + b"\x32\x80\x80\x80\x01" + filling


def installed_vision(pull: Puller) -> bytes:
    return load_model_folder(pull.models / "tiny").vision_path.read_bytes()


def ranges_of(hub: Hub, name: str) -> list[str | None]:
    return [r.range for r in hub.requests if r.name == name and r.method == "GET"]


def stop_after(hub: Hub, count: int) -> None:
    """Let a pull fail with so much of the picture tower."""
    hub.cut_after[VISION] = [count]
    hub.refuse[VISION] = [None, (403, {})]


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (401, "access was refused", "HF_TOKEN"),
        (404, "it is not there", "HF_ENDPOINT"),
        (429, "too many requests", "Wait"),
        (500, "the hub has trouble", "later"),
    ],
)
def test_a_refusal_is_one_clear_line(
    hub: Hub, pull: Puller, status: int, words: str, remedy: str
) -> None:
    hub.status = status
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert words in answer["message"]
    assert str(status) in answer["message"]
    assert "\n" not in answer["message"]
    assert remedy in answer["hint"]
    assert "`--model demo` works offline" in answer["hint"]
    assert pull.visible == []


def test_a_file_that_the_repository_has_not_is_named(hub: Hub, pull: Puller) -> None:
    del hub.files[TEXT]
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "onnx/text_model.onnx" in answer["message"]


def test_without_a_network_it_fails_soon_and_names_the_endpoint(pull: Puller) -> None:
    with Hub({}).serving() as gone:
        closed = gone.endpoint
    pull.environment["HF_ENDPOINT"] = closed
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert closed in answer["message"]
    assert "network" in answer["hint"]
    assert "`--model demo` works offline" in answer["hint"]


@pytest.mark.parametrize("endpoint", ["nonsense", "", "http://[::1", "http://host:x"])
def test_an_address_that_is_none_is_named(pull: Puller, endpoint: str) -> None:
    pull.environment["HF_ENDPOINT"] = endpoint
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert answer["message"] == f"HF_ENDPOINT is {endpoint!r}, which is no address of a hub"
    assert "https://HOST" in answer["hint"]


def test_an_empty_file_is_named_before_anything_is_fetched(hub: Hub, pull: Puller) -> None:
    hub.files[TEXT] = b""
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert answer["message"] == "onnx/text_model.onnx of Xenova/tiny is empty"
    assert hub.sent_bytes[VISION] == 0


@pytest.mark.parametrize("name", ["models", "models/.pulling-tiny"])
def test_a_file_where_a_folder_belongs_is_no_trouble_of_the_network(
    pull: Puller, name: str
) -> None:
    path = pull.folder / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    answer = pull()
    assert answer["error"] == "ModelError"
    assert str(path) in answer["message"]
    assert "A file is where a folder belongs" in answer["hint"]


def test_a_certificate_that_is_not_trusted_is_no_trouble_of_the_disk() -> None:
    row = find_row("siglip-base-patch16-384")
    # OpenSSL's number is that of "Operation not permitted".
    with pytest.raises(DownloadError, match="the connection to"), hub_errors(row):
        raise ssl.SSLCertVerificationError(1, "certificate verify failed")


def test_a_model_is_not_removed_while_it_is_fetched(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    hub.stall_after[VISION] = 1_000_000
    process = pull.start()
    wait_for(lambda: hub.sent_bytes[VISION] >= 1_000_000)
    with pytest.raises(ModelError, match="is being fetched by another process"):
        remove_model("tiny", pull.models)
    del hub.stall_after[VISION]
    hub.stalled.set()
    stdout, _ = process.communicate(timeout=60)
    assert json.loads(stdout)["directory"] == str(pull.models / "tiny")
    remove_model("tiny", pull.models)
    assert list(pull.models.iterdir()) == []


@pytest.mark.parametrize("changed", [False, True])
def test_a_mirrors_own_etag_tells_whether_a_file_that_is_there_is_the_right_one(
    hub: Hub, pull: Puller, large_vision: bytes, changed: bool
) -> None:
    hub.etag_prefix = "mirror-"
    hub.refuse[TEXT] = [(403, {})]
    assert "error" in pull()
    assert (pull.models / ".pulling-tiny" / "model" / "vision.onnx").is_file()
    if changed:
        # Of the same size: only the etag is another one.
        hub.files[VISION] = large_vision[:-1] + b"!"
    hub.forget()
    assert "directory" in pull()
    assert installed_vision(pull) == hub.files[VISION]
    assert (VISION in hub.fetched()) is changed


def test_what_is_no_hub_is_recognised(hub: Hub, pull: Puller) -> None:
    hub.hub_headers = False
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "does not answer as a hub does" in answer["message"]


def test_a_server_without_ranges_does_not_send_the_checkpoint(hub: Hub, pull: Puller) -> None:
    hub.ranges = False
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "cannot be read in parts" in answer["message"]


def test_a_damaged_file_is_never_installed_and_the_next_run_fetches_only_the_rest(
    hub: Hub, pull: Puller
) -> None:
    hub.damaged = VISION
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "onnx/vision_model.onnx of Xenova/tiny arrived damaged" in answer["message"]
    assert pull.visible == []

    hub.damaged = ""
    hub.forget()
    assert "directory" in pull()
    # The text tower did not arrive either: it comes after the picture tower.
    assert set(hub.fetched()) == {WEIGHTS, VISION, TEXT}


def test_a_cut_connection_is_taken_up_where_it_broke(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    hub.cut_after[VISION] = [700_000, 500_000]
    assert "directory" in pull()
    assert installed_vision(pull) == large_vision
    assert ranges_of(hub, VISION) == [None, "bytes=700000-", "bytes=1200000-"]
    assert hub.sent_bytes[VISION] == len(large_vision)
    sent_back = [request.if_range for request in hub.requests if request.name == VISION]
    assert sent_back[-1] is not None


def test_a_connection_that_brings_nothing_again_and_again_is_given_up(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    hub.cut_after[VISION] = [100_000] + [0] * 10
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "\n" not in answer["message"]
    assert len(ranges_of(hub, VISION)) == 5

    hub.cut_after.clear()
    hub.forget()
    assert "directory" in pull()
    assert hub.sent_bytes[VISION] == len(large_vision) - 100_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_costs_nothing_that_it_had_fetched(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    hub.stall_after[VISION] = 1_000_000
    process = pull.start()
    partial = pull.models / ".pulling-tiny" / "parts" / "Xenova--tiny--onnx--vision_model.onnx"
    wait_for(lambda: partial.exists() and partial.stat().st_size > 900_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = partial.stat().st_size
    assert pull.visible == []

    del hub.stall_after[VISION]
    hub.forget()
    seen = pull()["seen"]
    assert installed_vision(pull) == large_vision
    assert ranges_of(hub, VISION) == [f"bytes={kept}-"]
    # What is there already is shown as such, not as having come in at once.
    assert next(done for name, done, _ in seen if name == "onnx/vision_model.onnx") >= kept
    assert hub.sent_bytes[VISION] == len(large_vision) - kept
    # What was whole before the kill is not asked for again.
    assert hub.sent_bytes[TOKENIZER] == 0
    assert [entry.name for entry in pull.models.glob(".*")] == [".pulling-tiny.lock"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    stop_after(hub, 500_000)
    assert "error" in pull()
    changed = large_vision.replace(
        b"\x32\x80\x80\x80\x01\x00\x01\x02", b"\x32\x80\x80\x80\x01\x07\x07\x07"
    )
    assert changed != large_vision
    hub.files[VISION] = changed
    hub.forget()
    assert "directory" in pull()
    assert installed_vision(pull) == changed
    assert ranges_of(hub, VISION) == [None]


def test_another_etag_for_the_same_content_loses_nothing(
    hub: Hub, pull: Puller, large_vision: bytes
) -> None:
    # The hub names the content; the servers that it sends us on to have etags of their own.
    elsewhere = Hub(hub.files, etag_prefix="old-")
    with elsewhere.serving():
        hub.elsewhere = elsewhere
        stop_after(elsewhere, 500_000)
        assert "error" in pull()
        elsewhere.etag_prefix = "new-"
        elsewhere.forget()
        assert "directory" in pull()
    assert installed_vision(pull) == large_vision
    assert ranges_of(elsewhere, VISION) == ["bytes=500000-", "bytes=500000-"]
    first, second = (r for r in elsewhere.requests if r.name == VISION)
    assert (first.if_range is None, second.if_range is None) == (False, True)


@pytest.mark.parametrize("how", ["no ranges", "weak etags"])
def test_a_server_that_cannot_resume_is_still_fetched_from(
    hub: Hub, pull: Puller, large_vision: bytes, how: str
) -> None:
    elsewhere = Hub(hub.files, ranges=how != "no ranges", weak_etags=how == "weak etags")
    elsewhere.cut_after[VISION] = [500_000]
    # The checkpoint's two numbers are there already, so no range is needed for them.
    cache_whole_checkpoint(pull, hub)
    with elsewhere.serving():
        hub.elsewhere = elsewhere
        assert "directory" in pull()
    assert installed_vision(pull) == large_vision


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub: Hub, pull: Puller) -> None:
    hub.token = "hf_secret"
    answer = pull()
    assert "access was refused" in answer["message"]

    elsewhere = Hub(hub.files)
    with elsewhere.serving():
        hub.elsewhere = elsewhere
        pull.environment["HF_TOKEN"] = "hf_secret"
        hub.forget()
        assert "directory" in pull()
    assert {request.authorization for request in hub.requests} == {"Bearer hf_secret"}
    assert elsewhere.requests
    assert {request.authorization for request in elsewhere.requests} == {None}


def test_a_refusal_by_the_other_host_does_not_print_the_signature(hub: Hub, pull: Puller) -> None:
    elsewhere = Hub(hub.files, status=403)
    with elsewhere.serving():
        hub.elsewhere = elsewhere
        answer = pull()
    assert elsewhere.endpoint in answer["message"]
    assert "signature" not in answer["message"] + answer["hint"]


def test_a_server_that_asks_for_a_pause_gets_it(hub: Hub, pull: Puller) -> None:
    hub.refuse[VISION] = [(429, {"Retry-After": "1"}), (503, {"Retry-After": "0"})]
    assert "directory" in pull()
    assert len(ranges_of(hub, VISION)) == 3


def test_a_pause_that_nobody_would_wait_for_is_an_error(hub: Hub, pull: Puller) -> None:
    hub.refuse[VISION] = [(429, {"Retry-After": "3600"})]
    answer = pull()
    assert "too many requests" in answer["message"]


def test_two_pulls_at_once_share_one_download(hub: Hub, pull: Puller, large_vision: bytes) -> None:
    hub.stall_after[VISION] = 1_000_000
    first = pull.start()
    wait_for(lambda: hub.sent_bytes[VISION] >= 1_000_000)
    second = pull.start()
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    del hub.stall_after[VISION]
    hub.stalled.set()
    for process in (first, second):
        stdout, stderr = process.communicate(timeout=60)
        assert stderr == ""
        assert json.loads(stdout)["directory"] == str(pull.models / "tiny")
    assert installed_vision(pull) == large_vision
    assert hub.sent_bytes[VISION] == len(large_vision)


def cache_whole_checkpoint(pull: Puller, hub: Hub, *names: str) -> None:
    """Let the hub library fill its cache, as another program of the user's would have."""
    code = (
        "import sys; from huggingface_hub import hf_hub_download\n"
        "for name in sys.argv[1:]: owner, repo, path = name.split('/', 2); "
        "hf_hub_download(f'{owner}/{repo}', path)"
    )
    environment = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(pull.hf_home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PATH": str(Path(sys.executable).parent),
    }
    subprocess.run(
        [sys.executable, "-c", code, *(names or (WEIGHTS,))], env=environment, check=True
    )


def test_what_is_in_the_hub_librarys_cache_is_not_fetched_again(hub: Hub, pull: Puller) -> None:
    cache_whole_checkpoint(pull, hub, WEIGHTS, VISION)
    hub.forget()
    spec = load_model_folder(Path(pull()["directory"]))
    assert WEIGHTS not in hub.fetched()
    assert VISION not in hub.fetched()
    assert spec.vision_path.read_bytes() == hub.files[VISION]
    assert spec.score.logit_scale == pytest.approx(117.0, rel=1e-6)
    # The model is a copy: neither is lost with the other.
    shutil.rmtree(pull.hf_home)
    assert spec.vision_path.is_file()


def test_offline_mode_takes_everything_from_the_cache(hub: Hub, pull: Puller) -> None:
    preprocessor = "google/tiny/preprocessor_config.json"
    cache_whole_checkpoint(pull, hub, WEIGHTS, preprocessor, TOKENIZER, VISION, TEXT)
    online = load_model_folder(Path(pull()["directory"]))
    hub.forget()
    shutil.rmtree(pull.models)
    pull.environment["HF_HUB_OFFLINE"] = "1"
    offline = load_model_folder(Path(pull()["directory"]))
    assert hub.requests == []
    assert offline == online


def test_offline_mode_without_the_files_makes_no_request(hub: Hub, pull: Puller) -> None:
    pull.environment["HF_HUB_OFFLINE"] = "1"
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "HF_HUB_OFFLINE" in answer["message"]
    assert hub.requests == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; skipped where mounting one is not allowed."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs Linux to mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr!r}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    hub: Hub, pull: Puller, large_vision: bytes, small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    pull.folder = small_disk
    answer = pull()
    assert answer["error"] == "ModelError"
    assert "needs 2." in answer["message"]
    assert str(small_disk / "models") in answer["message"]
    assert "Make room" in answer["hint"]
    assert hub.sent_bytes[VISION] == 0


def test_a_disk_that_fills_up_meanwhile_keeps_what_was_fetched(
    hub: Hub, pull: Puller, large_vision: bytes, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    pull.folder = small_disk
    hub.before_content = lambda name: (
        None if name != VISION else ballast.write_bytes(bytes(2_000_000)) and None
    )
    answer = pull()
    assert answer["error"] == "ModelError"
    assert "No space left" in answer["message"]
    assert "make room" in answer["hint"]
    assert pull.visible == []
    (partial,) = (pull.models / ".pulling-tiny" / "parts").glob("*vision_model.onnx")
    kept = partial.stat().st_size
    assert kept > 0

    hub.before_content = lambda _: None
    ballast.unlink()
    hub.forget()
    assert "directory" in pull()
    assert installed_vision(pull) == large_vision
    assert hub.sent_bytes[VISION] == len(large_vision) - kept
