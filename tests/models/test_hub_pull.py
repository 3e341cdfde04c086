"""Fetching a model from a small hub of our own, over real HTTP.

Each pull runs in a process of its own, because the hub library reads its environment once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from siglip_search.errors import ModelError
from siglip_search.models.checkpoint_scalars import read_scale_and_bias
from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHECKPOINT, TOWERS = "google/tiny", "Xenova/tiny"
WEIGHTS = f"{CHECKPOINT}/model.safetensors"
PREPROCESSOR = f"{CHECKPOINT}/preprocessor_config.json"
VISION, TEXT = f"{TOWERS}/onnx/vision_model.onnx", f"{TOWERS}/onnx/text_model.onnx"

PULL = """
import dataclasses, json, sys
from pathlib import Path
from siglip_search.errors import SiglipSearchError
from siglip_search.models.hub import pull
from siglip_search.models.registry import HubSource, default_row

hub = HubSource(
    checkpoint_repo="google/tiny", weights_file="model.safetensors",
    preprocessor_file="preprocessor_config.json", onnx_repo="Xenova/tiny",
    vision_file="onnx/vision_model.onnx", text_file="onnx/text_model.onnx",
    tokenizer_repo="google/tiny", tokenizer_file="spiece.model",
    tokenizer_sha256=sys.argv[2] or None, image_size=(48, 48), resize="squash",
    tokenizer="sentencepiece", canonicalize="lowercase-no-punctuation",
    length=16, pad_id=1, end_id=1, min_probability=0.01,
)
row = dataclasses.replace(default_row(), name="tiny", dimension=32, hub=hub)
seen = []
try:
    spec = pull(row, Path(sys.argv[1]), on_progress=seen.append)
    print(json.dumps({"directory": str(spec.directory), "seen": [
        (step.file, step.done_bytes, step.total_bytes) for step in seen]}))
except SiglipSearchError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error), "hint": error.hint}))
"""


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def checkpoint_weights() -> bytes:
    return safetensors(
        {
            "padding": ("F32", [50_000], bytes(200_000)),
            "logit_bias": ("F32", [1], struct.pack("<f", -12.5)),
            "logit_scale": ("F32", [1], struct.pack("<f", math.log(117.0))),
        }
    )


@dataclass
class Hub:
    """What the stand-in serves and how it misbehaves."""

    files: dict[str, bytes]
    status: int = 200
    ranges: bool = True
    hub_headers: bool = True
    damaged: str = ""
    cut_once: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent_bytes: int = 0
    endpoint: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        hub = self.hub
        key, _, rest = self.path.lstrip("/").partition("/resolve/")
        name = f"{key}/{rest.partition('/')[2]}"
        asked = self.headers.get("Range")
        hub.requests.append((self.command, name, asked))
        if hub.status != 200 or name not in hub.files:
            self.send_response(hub.status if hub.status != 200 else 404)
            if hub.status == 200:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = hub.files[name]
        etag = self.etag(name, content)
        if name == hub.damaged and body:
            content = bytes(len(content))
        status, begin = 200, 0
        if asked and hub.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin = int(first)
            total = len(content)
            content = content[begin : int(last) + 1 if last else None]
            status = 206
        self.send_response(status)
        if hub.hub_headers:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{etag}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(content) - 1}/{total}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if name == hub.cut_once:
            hub.cut_once = ""
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            return
        hub.sent_bytes += len(content)

    @staticmethod
    def etag(name: str, content: bytes) -> str:
        if name.endswith(".json"):  # small files are git blobs on the hub, large ones LFS objects
            blob = b"blob %d\0" % len(content) + content
            return hashlib.sha1(blob).hexdigest()
        return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[Hub]:
    preprocessor = {
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "size": {"height": 48, "width": 48},
    }
    served = Hub(
        {
            WEIGHTS: checkpoint_weights(),
            PREPROCESSOR: json.dumps(preprocessor).encode(),
            f"{CHECKPOINT}/spiece.model": (tiny_model / "tokenizer.model").read_bytes(),
            VISION: (tiny_model / "vision.onnx").read_bytes(),
            TEXT: (tiny_model / "text.onnx").read_bytes(),
        }
    )
    handler = type("HubHandler", (Handler,), {"hub": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def pull(
    endpoint: str, models: Path, *, tokenizer_sha256: str = "", **environment: str
) -> dict[str, Any]:
    settings = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(models.parent / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", PULL, str(models), tokenizer_sha256],
        capture_output=True,
        text=True,
        env=settings,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def assert_nothing_visible(models: Path) -> None:
    assert [entry for entry in models.iterdir() if not entry.name.startswith(".")] == []


def test_a_pulled_model_has_the_checkpoints_scale_bias_and_preprocessing(
    hub: Hub, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    answer = pull(hub.endpoint, models)
    spec = load_model_folder(Path(answer["directory"]))
    assert spec.directory == models / "tiny"
    assert spec.score.logit_scale == pytest.approx(117.0, rel=1e-6)
    assert spec.score.logit_bias == -12.5
    assert spec.score.min_probability == 0.01
    assert spec.vision.resample == "bicubic"
    assert spec.vision.image_size == (48, 48)
    assert spec.checkpoint == "sha256:" + hashlib.sha256(hub.files[WEIGHTS]).hexdigest()
    assert spec.vision_path.read_bytes() == hub.files[VISION]
    assert spec.text_path.read_bytes() == hub.files[TEXT]
    # Nothing is left beside the model.
    assert [entry.name for entry in models.iterdir()] == ["tiny"]


def test_only_a_few_bytes_of_the_checkpoint_are_read(hub: Hub, tmp_path: Path) -> None:
    pull(hub.endpoint, tmp_path / "models")
    read = [asked for how, name, asked in hub.requests if name == WEIGHTS and how == "GET"]
    assert len(read) == 4
    assert all(asked is not None for asked in read)
    needed = sum(len(content) for name, content in hub.files.items() if name != WEIGHTS)
    assert hub.sent_bytes - needed < 1_000


def test_progress_counts_up_to_the_total(hub: Hub, tmp_path: Path) -> None:
    seen = pull(hub.endpoint, tmp_path / "models")["seen"]
    total = sum(len(content) for name, content in hub.files.items() if name != WEIGHTS)
    assert {step[2] for step in seen} == {total}
    done = [step[1] for step in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == total


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
    hub: Hub, tmp_path: Path, status: int, words: str, remedy: str
) -> None:
    hub.status = status
    answer = pull(hub.endpoint, tmp_path / "models")
    assert answer["error"] == "DownloadError"
    assert words in answer["message"]
    assert str(status) in answer["message"]
    assert "\n" not in answer["message"]
    assert remedy in answer["hint"]
    assert "`--model demo` works offline" in answer["hint"]
    assert_nothing_visible(tmp_path / "models")


def test_without_a_network_it_fails_soon_and_names_the_endpoint(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        closed = f"http://127.0.0.1:{server.server_port}"
    answer = pull(closed, tmp_path / "models")
    assert answer["error"] == "DownloadError"
    assert closed in answer["message"]
    assert "network" in answer["hint"]
    assert "`--model demo` works offline" in answer["hint"]


def test_offline_mode_makes_no_request(hub: Hub, tmp_path: Path) -> None:
    answer = pull(hub.endpoint, tmp_path / "models", HF_HUB_OFFLINE="1")
    assert answer["error"] == "DownloadError"
    assert "HF_HUB_OFFLINE" in answer["message"]
    assert hub.requests == []


def test_what_is_no_hub_is_recognised(hub: Hub, tmp_path: Path) -> None:
    hub.hub_headers = False
    answer = pull(hub.endpoint, tmp_path / "models")
    assert answer["error"] == "DownloadError"
    assert "does not answer as a hub does" in answer["message"]


def test_a_server_without_ranges_does_not_send_the_checkpoint(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    answer = pull(hub.endpoint, tmp_path / "models")
    assert answer["error"] == "DownloadError"
    assert "cannot be read in parts" in answer["message"]


def test_a_damaged_file_is_never_installed_and_the_next_run_fetches_only_the_rest(
    hub: Hub, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    hub.damaged = VISION
    answer = pull(hub.endpoint, models)
    assert answer["error"] == "DownloadError"
    assert "arrived damaged" in answer["message"]
    assert_nothing_visible(models)

    hub.damaged = ""
    hub.requests.clear()
    assert pull(hub.endpoint, models)["directory"] == str(models / "tiny")
    fetched = [name for how, name, _ in hub.requests if how == "GET" and name != WEIGHTS]
    assert fetched == [VISION]


def test_a_cut_connection_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_once = VISION
    answer = pull(hub.endpoint, tmp_path / "models")
    assert (
        load_model_folder(Path(answer["directory"])).vision_path.read_bytes() == (hub.files[VISION])
    )


def test_another_tokenizer_than_the_rows_is_refused(hub: Hub, tmp_path: Path) -> None:
    answer = pull(hub.endpoint, tmp_path / "models", tokenizer_sha256="0" * 64)
    assert answer["error"] == "DownloadError"
    assert "is not the tokenizer" in answer["message"]
    assert_nothing_visible(tmp_path / "models")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"size": {"height": 64, "width": 64}}, "says 64 x 64 pixels"),
        ({"resample": 1}, "resampling filter 1"),
        ({"size": {"shortest_edge": 48}}, "has no size"),
    ],
)
def test_a_preprocessor_that_contradicts_the_row_is_refused(
    hub: Hub, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    said = {**json.loads(hub.files[PREPROCESSOR]), **config}
    hub.files[PREPROCESSOR] = json.dumps(said).encode()
    answer = pull(hub.endpoint, tmp_path / "models")
    assert answer["error"] == "DownloadError"
    assert words in answer["message"]


def test_an_installed_model_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    pull(hub.endpoint, models)
    hub.requests.clear()
    answer = pull(hub.endpoint, models)
    assert answer["error"] == "ModelError"
    assert "installed already" in answer["message"]
    assert hub.requests == []


def read(content: bytes) -> tuple[float, float | None]:
    return read_scale_and_bias(lambda start, count: content[start : start + count], where="weights")


@pytest.mark.parametrize(
    ("kind", "shape", "raw"),
    [
        ("F32", [], struct.pack("<f", 4.75)),
        ("F64", [1], struct.pack("<d", 4.75)),
        ("F16", [1], struct.pack("<e", 4.75)),
        ("BF16", [1], struct.pack("<f", 4.75)[2:]),
    ],
)
def test_a_scale_of_any_float_type_is_read(kind: str, shape: list[int], raw: bytes) -> None:
    assert read(safetensors({"logit_scale": (kind, shape, raw)})) == (math.exp(4.75), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors({"weight": ("F32", [1], bytes(4))}), "has no logit_scale"),
        (safetensors({"logit_scale": ("F32", [2], bytes(8))}), "not as one number"),
        (safetensors({"logit_scale": ("I8", [1], bytes(1))}), "not as one number"),
        (b"<!doctype html><html></html>", "not a safetensors file"),
        (struct.pack("<Q", 4) + b"nope", "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "not a safetensors file"),
        (struct.pack("<Q", 18) + b'{"logit_scale": 1}', "not a safetensors file"),
    ],
)
def test_other_content_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read(content)
