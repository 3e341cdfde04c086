"""Fetching a known model from the hub into a model folder.

Only what is needed is fetched: two towers, the tokenizer, the preprocessor's JSON, and of the
checkpoint's weights the two scalars that no export of a single tower contains. The library behind
it reads HF_ENDPOINT, HF_HUB_OFFLINE, proxies and tokens from the environment, as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DownloadError, ModelError
from siglip_search.models.checkpoint_scalars import ReadRange, read_scale_and_bias
from siglip_search.models.files import install_folder, refuse_taken_name, staging_folder
from siglip_search.models.hub_errors import hub_errors
from siglip_search.models.model_folder import sha256_of
from siglip_search.models.registry import OFFLINE_REMARK
from siglip_search.models.spec import MODEL_FILE

if TYPE_CHECKING:
    from siglip_search.models.registry import HubSource, RegistryRow
    from siglip_search.models.spec import ModelSpec, Resample

_PARTIAL_PREFIX: Final = ".pulling-"
_REVISION: Final = "main"
_PREPROCESSING_RULES: Final = 1
_PIL_FILTERS: Final[dict[int, Resample]] = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a download has come.

    Attributes:
        file: What is being fetched.
        done_bytes: Of all files together.
        total_bytes: Of all files together.
    """

    file: str
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[PullProgress], None]


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    repo: str
    name: str
    url: str
    commit: str
    etag: str
    size_bytes: int


def pull(row: RegistryRow, models_dir: Path, *, on_progress: OnProgress | None = None) -> ModelSpec:
    """Fetch a known model and install it; a model that is half there is never visible.

    Files that arrived whole before a failure are kept and not fetched again.

    Args:
        row: The model.
        models_dir: Folder with one folder per model; made if need be.
        on_progress: Called often, on this thread.

    Raises:
        DownloadError: If the hub cannot be reached, refuses, or sends something else.
        ModelError: If the name is taken or the files cannot be stored.
    """
    if row.hub is None:
        raise ModelError(
            f"the model {row.name!r} comes with the program: there is nothing to fetch",
            hint=f"Use it with `--model {row.name}`.",
        )
    refuse_taken_name(row.name, models_dir, replace=False)
    partial = models_dir / f"{_PARTIAL_PREFIX}{row.name}"
    with hub_errors(row):
        partial.mkdir(parents=True, exist_ok=True)
        fetched = _fetch(row.hub, partial, on_progress or (lambda _: None))
        spec = _assemble(row, row.hub, fetched, models_dir)
        shutil.rmtree(partial, ignore_errors=True)
        return spec


@dataclass(frozen=True, slots=True)
class _Fetched:
    vision: Path
    text: Path
    tokenizer: Path
    preprocessor: Path
    checkpoint: str
    logit_scale: float
    logit_bias: float | None
    ours: bool  # the files are not the hub library's cache, so they may be linked


def _fetch(source: HubSource, partial: Path, on_progress: OnProgress) -> _Fetched:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return _from_cache(source)
    # The cheap questions first: without a network this fails at once, and a checkpoint that is
    # not what the row says is noticed before the towers are fetched.
    weights = _look_up(source.checkpoint_repo, source.weights_file)
    scale, bias = read_scale_and_bias(_remote_reader(weights), where=weights.url)
    files = {
        "preprocessor": _look_up(source.checkpoint_repo, source.preprocessor_file),
        "tokenizer": _look_up(source.tokenizer_repo, source.tokenizer_file),
        "text": _look_up(source.onnx_repo, source.text_file),
        "vision": _look_up(source.onnx_repo, source.vision_file),
    }
    total = sum(file.size_bytes for file in files.values())
    paths: dict[str, Path] = {}
    done = 0
    for role, file in files.items():
        on_progress(PullProgress(file.name, done, total))
        paths[role] = _download(file, partial, done, total, on_progress)
        done += file.size_bytes
        on_progress(PullProgress(file.name, done, total))
    return _Fetched(
        **paths,
        checkpoint=_identity(weights),
        logit_scale=scale,
        logit_bias=bias,
        ours=True,
    )


def _from_cache(source: HubSource) -> _Fetched:
    """Take everything from the hub library's own cache: HF_HUB_OFFLINE forbids any request."""
    from huggingface_hub import hf_hub_download

    def cached(repo: str, name: str) -> Path:
        return Path(hf_hub_download(repo, name, revision=_REVISION))

    weights = cached(source.checkpoint_repo, source.weights_file)
    with weights.open("rb") as stream:

        def read_range(start: int, count: int) -> bytes:
            stream.seek(start)
            return stream.read(count)

        scale, bias = read_scale_and_bias(read_range, where=str(weights))
    return _Fetched(
        vision=cached(source.onnx_repo, source.vision_file),
        text=cached(source.onnx_repo, source.text_file),
        tokenizer=cached(source.tokenizer_repo, source.tokenizer_file),
        preprocessor=cached(source.checkpoint_repo, source.preprocessor_file),
        checkpoint=f"sha256:{sha256_of(weights)}",
        logit_scale=scale,
        logit_bias=bias,
        ours=False,
    )


def _look_up(repo: str, name: str) -> _RemoteFile:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import FileMetadataError

    url = hf_hub_url(repo, name, revision=_REVISION)
    found = get_hf_file_metadata(url)
    if found.commit_hash is None or found.etag is None or found.size is None:
        raise FileMetadataError(f"{url} was answered without the hub's headers")
    return _RemoteFile(repo, name, url, found.commit_hash, found.etag, found.size)


def _remote_reader(file: _RemoteFile) -> ReadRange:
    # Public by its documentation; its package only lacks the re-export marks.
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    def read_range(start: int, count: int) -> bytes:
        headers = {
            **build_hf_headers(),
            "Range": f"bytes={start}-{start + count - 1}",
            "Accept-Encoding": "identity",
        }
        # Streamed, so that a server that ignores the range does not send the whole checkpoint.
        with get_session().stream(
            "GET", file.url, headers=headers, follow_redirects=True, timeout=30.0
        ) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:
                raise DownloadError(
                    f"{file.url} cannot be read in parts",
                    hint="A mirror or proxy drops Range requests: fetch without it. "
                    f"{OFFLINE_REMARK}",
                )
            content: bytes = response.read()
        if len(content) != count:
            raise DownloadError(
                f"{file.url} sent {len(content)} bytes where {count} were asked for",
                hint=f"Try again. {OFFLINE_REMARK}",
            )
        return content

    return read_range


def _download(
    file: _RemoteFile, partial: Path, before: int, total: int, on_progress: OnProgress
) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # as above

    class Reporter(tqdm):
        """Passes on what the hub library would draw as a bar."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
            self._received = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._received += int(n or 0)
            on_progress(PullProgress(file.name, before + self._received, total))

    path = Path(
        hf_hub_download(
            file.repo,
            file.name,
            revision=file.commit,
            local_dir=partial / file.repo.replace("/", "--"),
            tqdm_class=Reporter,
        )
    )
    # The library compares sizes only.
    if not _is_content(path, file.etag):
        path.unlink()
        raise DownloadError(
            f"{file.name} of {file.repo} arrived damaged", hint=f"Run it again. {OFFLINE_REMARK}"
        )
    return path


def _is_content(path: Path, etag: str) -> bool:
    """Compare a file with the hub's etag: SHA-256 of large files, git's blob SHA-1 of others."""
    if len(etag) == 64:
        return sha256_of(path) == etag
    if len(etag) == 40:
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == etag
    return True  # a mirror's own kind of etag says nothing about the content


def _identity(weights: _RemoteFile) -> str:
    if len(weights.etag) == 64:
        return f"sha256:{weights.etag}"
    return f"hub:{weights.repo}@{weights.commit}"


def _assemble(
    row: RegistryRow, source: HubSource, fetched: _Fetched, models_dir: Path
) -> ModelSpec:
    if source.tokenizer_sha256 not in (None, sha256_of(fetched.tokenizer)):
        raise DownloadError(
            f"{source.tokenizer_file} of {source.tokenizer_repo} is not the tokenizer that "
            f"{row.name} was trained with",
            hint=f"The repository has changed: upgrade siglip-search. {OFFLINE_REMARK}",
        )
    description = _model_toml(row, source, fetched)
    with staging_folder(models_dir, row.name) as staged:
        place = _link_or_copy if fetched.ours else shutil.copyfile
        place(fetched.tokenizer, staged / "tokenizer.model")
        place(fetched.vision, staged / "vision.onnx")
        place(fetched.text, staged / "text.onnx")
        (staged / MODEL_FILE).write_text(description, encoding="utf-8")
        return install_folder(staged, models_dir, row.name)


def _link_or_copy(source: Path, target: Path) -> None:
    # A link needs no second gigabyte, and what was fetched stays until the model is installed.
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _model_toml(row: RegistryRow, source: HubSource, fetched: _Fetched) -> str:
    where = f"{source.preprocessor_file} of {source.checkpoint_repo}"
    try:
        said = json.loads(fetched.preprocessor.read_text(encoding="utf-8"))
        size = (said["size"]["height"], said["size"]["width"])
        resample, mean, std = said["resample"], said["image_mean"], said["image_std"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unexpected(row, where, "has no size, resample, image_mean and image_std") from error
    if size != source.image_size:
        raise _unexpected(row, where, f"says {size[0]} x {size[1]} pixels")
    if resample not in _PIL_FILTERS:
        raise _unexpected(row, where, f"names the resampling filter {resample!r}")
    bias = "" if fetched.logit_bias is None else f"logit_bias = {fetched.logit_bias!r}\n"
    # A JSON text is a TOML text too, as are JSON lists of numbers.
    return f"""\
format = 1
name = {json.dumps(row.name)}
title = {json.dumps(row.title)}
licence = {json.dumps(row.licence)}
languages = {json.dumps(row.languages)}
dimension = {row.dimension}
checkpoint = {json.dumps(fetched.checkpoint)}
preprocessing = {_PREPROCESSING_RULES}

[vision]
file = "vision.onnx"
precision = "fp32"
image_size = {json.dumps(source.image_size)}
resize = {json.dumps(source.resize)}
resample = {json.dumps(_PIL_FILTERS[resample])}
mean = {json.dumps(mean)}
std = {json.dumps(std)}

[text]
file = "text.onnx"
precision = "fp32"
tokenizer = {json.dumps(source.tokenizer)}
tokenizer_file = "tokenizer.model"
canonicalize = {json.dumps(source.canonicalize)}
length = {source.length}
pad_id = {source.pad_id}
end_id = {source.end_id}

[score]
logit_scale = {fetched.logit_scale!r}
{bias}min_probability = {source.min_probability!r}
"""


def _unexpected(row: RegistryRow, where: str, what: str) -> DownloadError:
    return DownloadError(
        f"{where} {what}, which is not what {row.name} needs",
        hint=f"The repository has changed: upgrade siglip-search. {OFFLINE_REMARK}",
    )
