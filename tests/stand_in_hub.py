"""A small hub of our own, over real HTTP on the loopback: what it serves and how it misbehaves."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK_BYTES = 16_384

TINY_ROW = """
format = 1

[[model]]
name = "tiny"
title = "A tiny model"
licence = "Apache-2.0"
languages = ["en"]
dimension = 32

[model.checkpoint]
repo = "google/tiny"
weights = "model.safetensors"
preprocessor = "preprocessor_config.json"
architecture = { library = "transformers", name = "SiglipModel" }

[model.onnx]
repo = "Xenova/tiny"
fp32 = { vision = "onnx/vision_model.onnx", text = "onnx/text_model.onnx" }
int8 = { vision = "onnx/vision_model_quantized.onnx", text = "onnx/text_model_quantized.onnx" }

[model.vision]
image_size = [48, 48]
resize = "squash"

[model.text]
tokenizer = "sentencepiece"
tokenizer_repo = "google/tiny"
tokenizer_file = "spiece.model"
canonicalize = "lowercase-no-punctuation"
length = 16
pad_id = 1
end_id = 1

[model.score]
min_probability = 0.01
"""
"""A user's models.toml: the tiny random model as if it were on the hub."""


@dataclass
class Request:
    """One request as it came in."""

    method: str
    name: str
    range: str | None
    if_range: str | None
    authorization: str | None


@dataclass
class Hub:
    """What is served and what goes wrong.

    Attributes:
        files: Content, or a file with it, by REPO/NAME.
        refuse: Answers to give instead, by REPO/NAME; each is used up by one request. None lets
            one through.
        status: Answer to everything instead.
        token: What must be sent; None for anybody.
        ranges: Whether parts can be asked for.
        hub_headers: Whether the headers that only a hub sends are sent.
        damaged: REPO/NAME whose content arrives as zeros.
        cut_after: Bytes after which a connection ends, by REPO/NAME; each ends one connection.
        stall_after: Bytes after which a connection goes silent, by REPO/NAME.
        elsewhere: Another hub that is redirected to for the content.
        weak_etags: Answer with a weak etag.
        before_content: Called with REPO/NAME before content is sent.
    """

    files: dict[str, bytes | Path]
    refuse: dict[str, list[tuple[int, dict[str, str]] | None]] = field(default_factory=dict)
    status: int = 200
    token: str | None = None
    ranges: bool = True
    hub_headers: bool = True
    damaged: str = ""
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    stall_after: dict[str, int] = field(default_factory=dict)
    elsewhere: Hub | None = None
    weak_etags: bool = False
    etag_prefix: str = ""
    before_content: Callable[[str], None] = lambda _: None
    requests: list[Request] = field(default_factory=list)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    stalled: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    def fetched(self) -> list[str]:
        """Return what was asked for with its content, in order."""
        return [request.name for request in self.requests if request.method == "GET"]

    def forget(self) -> None:
        self.requests.clear()
        self.sent_bytes.clear()

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        handler = type("HubHandler", (_Handler,), {"hub": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            self.endpoint = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                self.stalled.set()
                server.shutdown()
                thread.join()


class _Content:
    def __init__(self, source: bytes | Path, name: str) -> None:
        self._source = source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self.etag = self._etag(name)

    def _etag(self, name: str) -> str:
        if isinstance(self._source, Path):
            with self._source.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        if name.endswith((".json", ".txt")):  # small files are git blobs, large ones LFS objects
            return hashlib.sha1(b"blob %d\0" % self.size + self._source).hexdigest()
        return hashlib.sha256(self._source).hexdigest()

    def chunks(self, begin: int, end: int) -> Iterator[bytes]:
        if isinstance(self._source, bytes):
            for place in range(begin, end, CHUNK_BYTES):
                yield self._source[place : min(end, place + CHUNK_BYTES)]
            return
        with self._source.open("rb") as stream:
            stream.seek(begin)
            while begin < end:
                chunk = stream.read(min(2**20, end - begin))
                begin += len(chunk)
                yield chunk


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        # A client that was killed is what some tests are about.
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        hub = self.hub
        repo, _, rest = self.path.partition("?")[0].lstrip("/").partition("/resolve/")
        name = f"{repo}/{rest.partition('/')[2]}"
        asked = self.headers.get("Range")
        if_range = self.headers.get("If-Range")
        token = self.headers.get("Authorization")
        hub.requests.append(Request(self.command, name, asked, if_range, token))
        if hub.status != 200:
            self.refuse(hub.status, {})
        elif hub.token is not None and token != f"Bearer {hub.token}":
            self.refuse(401, {})
        elif body and (answer := self.answer_instead(name)) is not None:
            self.refuse(*answer)
        elif name not in hub.files:
            self.refuse(404, {"X-Error-Code": "EntryNotFound"})
        elif hub.elsewhere is not None:
            self.send_on(hub.elsewhere, name)
        else:
            self.serve(name, asked, if_range, body=body)

    def answer_instead(self, name: str) -> tuple[int, dict[str, str]] | None:
        answers = self.hub.refuse.get(name)
        return answers.pop(0) if answers else None

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def send_on(self, other: Hub, name: str) -> None:
        content = _content(self.hub, name)
        self.send_response(302)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-ETag", f'"{content.etag}"')
        self.send_header("X-Linked-Size", str(content.size))
        self.send_header("Location", f"{other.endpoint}{self.path}?signature=secret")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def serve(self, name: str, asked: str | None, if_range: str | None, *, body: bool) -> None:
        hub = self.hub
        content = _content(hub, name)
        etag = f'{"W/" if hub.weak_etags else ""}"{hub.etag_prefix}{content.etag}"'
        begin, end = 0, content.size
        partly = bool(asked) and hub.ranges and if_range in (None, etag)
        if partly and asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), int(last) + 1 if last else content.size
            if begin >= content.size:
                self.refuse(416, {"Content-Range": f"bytes */{content.size}"})
                return
            end = min(end, content.size)
        self.send_response(206 if partly else 200)
        if hub.hub_headers:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", etag)
        if partly:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{content.size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if body:
            hub.before_content(name)
            self.send(name, content, begin, end)

    def send(self, name: str, content: _Content, begin: int, end: int) -> None:
        hub = self.hub
        cuts = hub.cut_after.get(name)
        stop = begin + cuts.pop(0) if cuts else None
        stall = begin + hub.stall_after[name] if name in hub.stall_after else None
        for limit in (stop, stall):
            end = end if limit is None else min(end, limit)
        try:
            for chunk in content.chunks(begin, end):
                self.wfile.write(bytes(len(chunk)) if name == hub.damaged else chunk)
                hub.sent_bytes[name] += len(chunk)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if stall is not None and end == stall:
            hub.stalled.wait(60)
        if stop is not None or stall is not None:
            self.close_connection = True
            self.connection.close()


def _content(hub: Hub, name: str) -> _Content:
    # Hashing gigabytes for every request would be most of the time.
    cache: dict[str, tuple[object, _Content]] = hub.__dict__.setdefault("_contents", {})
    source = hub.files[name]
    if name not in cache or cache[name][0] is not source:
        cache[name] = (source, _Content(source, name))
    return cache[name][1]


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """Return a safetensors file of tensors given by type, shape and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def checkpoint_weights(scale: float = 117.0, bias: float | None = -12.5) -> bytes:
    """Return a checkpoint of which only scale and bias mean anything."""
    scalars = {"logit_scale": math.log(scale), "logit_bias": bias}
    return safetensors(
        {
            "padding": ("F32", [50_000], bytes(200_000)),
            **{
                name: ("F32", [1], struct.pack("<f", value))
                for name, value in scalars.items()
                if value is not None
            },
        }
    )


def preprocessor_config(side: int, **changes: Any) -> bytes:
    """Return a preprocessor_config.json as SigLIP's are."""
    return json.dumps(
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
            **changes,
        }
    ).encode()
