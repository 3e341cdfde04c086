"""Where a checkpoint's files are: what the user has, and the rest from the hub or its cache."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from siglip_search.errors import DownloadError, ModelError
from siglip_search.models.hub_errors import hub_errors
from siglip_search.models.model_folder import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.models.registry_row import HubSource, RegistryRow

CONFIG_FILE: Final = "config.json"
"""Sizes of a Transformers model; open_clip's are in the library."""

_WEIGHTS_FILES: Final = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""Names that the libraries give, the safer format first."""
_WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
_PREFIXES: Final = ("module.", "_orig_mod.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files that an export is made from.

    Attributes:
        weights: safetensors, or a state dict as torch saves it.
        config: Sizes of the network; None where the library knows them by name.
        preprocessor: JSON with size, filter, mean and deviation.
        tokenizer: SentencePiece model or merges of a byte-pair encoding.
        identity: Of the weights: "sha256:" and the file's hash.
        own: The weights are the user's, not the row's published ones.
    """

    weights: Path
    config: Path | None
    preprocessor: Path
    tokenizer: Path
    identity: str
    own: bool


def find_checkpoint(row: RegistryRow, weights: Path | None) -> Checkpoint:
    """Find everything that an export of `row` needs.

    Args:
        row: The model.
        weights: The user's checkpoint: a folder as the library saves it, or a file of weights.
            What does not lie there comes from the hub. None for the published checkpoint.

    Raises:
        ModelError: If there are no weights at `weights`.
        DownloadError: If something must come from the hub and cannot.
    """
    source = row.hub
    assert source is not None
    own = None if weights is None else _weights_in(weights, source)
    folder = None if own is None else own.parent

    def find(repo: str, name: str) -> Path:
        if folder is not None:
            for candidate in (folder / name, folder / Path(name).name):
                if candidate.is_file():
                    return candidate
        return _from_hub(row, repo, name, beside=own)

    found = own or _from_hub(row, source.checkpoint_repo, source.weights_file, beside=None)
    config = None
    if source.architecture.library == "transformers":
        config = find(source.checkpoint_repo, CONFIG_FILE)
    try:
        identity = f"sha256:{sha256_of(found)}"
    except OSError as error:
        raise _unreadable(found, error.strerror or str(error)) from error
    return Checkpoint(
        weights=found,
        config=config,
        preprocessor=find(source.checkpoint_repo, source.preprocessor_file),
        tokenizer=_tokenizer(row, source, find),
        identity=identity,
        own=own is not None,
    )


def read_state_dict(path: Path) -> dict[str, Any]:
    """Return the weights in a file by name, as the library that saved them names them.

    What a training program wraps around a state dict is taken off: `{"state_dict": ...}`, and
    the prefixes of data-parallel and compiled modules. Nothing in the file is executed.

    Raises:
        ModelError: If the file cannot be read or holds no named weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (SafetensorError, pickle.UnpicklingError, BadZipFile, EOFError, RuntimeError) as error:
        raise _unreadable(path, "it holds no weights, or is damaged") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise _unreadable(path, "it holds something else than weights by name")
    for prefix in _PREFIXES:
        if all(str(name).startswith(prefix) for name in content):
            content = {name[len(prefix) :]: value for name, value in content.items()}
    return content


def _weights_in(path: Path, source: HubSource) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelError(
            f"{path} does not exist", hint="Name a folder or a file with trained weights."
        )
    for name in (Path(source.weights_file).name, *_WEIGHTS_FILES):
        if (path / name).is_file():
            return path / name
    if any(path.glob("*.index.json")):
        raise ModelError(
            f"the weights in {path} are split into several files",
            hint="Save them as one: model.save_pretrained(DIR, max_shard_size='50GB').",
        )
    raise ModelError(
        f"there are no weights in {path}",
        hint=f"It should hold {' or '.join(_WEIGHTS_FILES[:2])}; or name the file itself.",
    )


def _from_hub(row: RegistryRow, repo: str, name: str, *, beside: Path | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        with hub_errors(row):
            return Path(hf_hub_download(repo, name))
    except DownloadError as error:
        if beside is None:
            raise
        raise DownloadError(
            f"{Path(name).name} is not beside {beside}, and {error}",
            hint=f"Put it there; it is in {repo} on the hub.",
        ) from error


def _tokenizer(row: RegistryRow, source: HubSource, find: Callable[[str, str], Path]) -> Path:
    if source.tokenizer == "clip-bpe" and (merges := _open_clip_merges()) is not None:
        return merges
    path = find(source.tokenizer_repo, source.tokenizer_file)
    if source.tokenizer_sha256 not in (None, sha256_of(path)):
        raise ModelError(
            f"{path} is not the tokenizer that {row.name} was trained with",
            hint=f"Take {source.tokenizer_file} of {source.tokenizer_repo}.",
        )
    return path


def _open_clip_merges() -> Path | None:
    """Return the merges that open_clip brings along, which are those of every CLIP."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        return None
    merges = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    return merges if merges.is_file() else None


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} cannot be read: {why}",
        hint="Name a folder or a file with trained weights (.safetensors, .pt).",
    )
