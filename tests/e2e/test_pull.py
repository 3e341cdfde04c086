"""`model pull` of the installed command from a hub over real HTTP, and what comes after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from installed_command import COMMAND, CommandLine
from stand_in_hub import TINY_ROW, Hub, checkpoint_weights, preprocessor_config

from siglip_search.settings import models_directory, own_models_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VISION = "Xenova/tiny/onnx/vision_model.onnx"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    towers = {name: (tiny_model / f"{name}.onnx").read_bytes() for name in ("vision", "text")}
    # A megabyte of documentation, which nobody reads, makes the tower worth interrupting.
    towers["vision"] += b"\x32\x80\x80\x40" + b"documentation..." * 65_536
    files: dict[str, bytes | Path] = {
        "google/tiny/model.safetensors": checkpoint_weights(),
        "google/tiny/preprocessor_config.json": preprocessor_config(48),
        "google/tiny/spiece.model": (tiny_model / "tokenizer.model").read_bytes(),
    }
    for suffix in ("", "_quantized"):
        for name, tower in towers.items():
            files[f"Xenova/tiny/onnx/{name}_model{suffix}.onnx"] = tower
    own = own_models_file()
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(TINY_ROW, encoding="utf-8")
    with Hub(files).serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield served


def models(cli: CommandLine) -> dict[str, Any]:
    return {model["name"]: model for model in cli("model", "list", "--json").json}


def test_pull_index_query(cli: CommandLine, hub: Hub, pictures: Path) -> None:
    assert not models(cli)["tiny"]["installed"]
    said = cli("model", "pull", "tiny").stderr
    assert "tiny is ready in" in said
    assert models(cli)["tiny"]["installed"]
    cli("index", "--model", "tiny", pictures)
    # Random weights and a bias of -12.5: what is found means nothing, that it is found does.
    hits = cli("query", "--json", "--min-probability", "0", "-n", "3", "a red boat").json
    assert len(hits) == 3
    assert all(0.0 <= hit["probability"] < 1.0 for hit in hits)
    cli.verify()


def test_another_precision_is_another_model(cli: CommandLine, hub: Hub) -> None:
    done = cli("model", "pull", "--precision", "int8", "tiny")
    assert "tiny-int8 is ready in" in done.stderr
    size = round(models(cli)["tiny-int8"]["disk_bytes"] / 1e6)
    assert f"fetching tiny-int8: {size} MB, " in done.stderr
    assert done.stderr.count("fetching") == 1
    assert models(cli)["tiny-int8"]["installed"]
    assert not models(cli)["tiny"]["installed"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_pull_leaves_no_model_and_the_next_goes_on(
    cli: CommandLine, hub: Hub, pictures: Path
) -> None:
    hub.stall_after[VISION] = 500_000
    process = cli.start("model", "pull", "tiny")
    deadline = time.monotonic() + 60
    parts = models_directory() / ".pulling-tiny" / "parts"
    while sum(part.stat().st_size for part in parts.glob("*vision_model.onnx")) < 400_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not models(cli)["tiny"]["installed"]
    refused = cli("index", "--model", "tiny", pictures, expect=2).stderr
    assert "not on this machine yet" in refused

    del hub.stall_after[VISION]
    hub.forget()
    cli("model", "pull", "tiny")
    assert models(cli)["tiny"]["installed"]
    whole = hub.files[VISION]
    assert isinstance(whole, bytes)
    assert hub.sent_bytes[VISION] <= len(whole) - 400_000


def test_what_goes_wrong_is_one_line_with_a_remedy(cli: CommandLine, hub: Hub) -> None:
    hub.damaged = VISION
    done = cli("model", "pull", "tiny", expect=2)
    assert "arrived damaged" in done.stderr
    hub.damaged = ""
    hub.status = 429
    done = cli("model", "pull", "tiny", expect=2)
    assert "too many requests" in done.stderr
    assert done.stdout == b""


def test_towers_that_do_not_work_are_not_installed(cli: CommandLine, hub: Hub) -> None:
    working = hub.files[VISION]
    hub.files[VISION] = b"no tower at all"
    done = cli("model", "pull", "tiny", expect=2)
    assert "the model 'tiny' was fetched and does not work: vision.onnx" in done.stderr
    assert not models(cli)["tiny"]["installed"]
    hub.files[VISION] = working
    cli("model", "pull", "tiny")
    again = cli("model", "pull", "tiny", expect=2)
    assert "installed already" in again.stderr
    assert "--replace" in again.stderr
    assert "fetching" not in again.stderr
    cli("model", "pull", "--replace", "tiny")
    assert models(cli)["tiny"]["installed"]


def test_nobody_accepts_a_licence_for_nothing(cli: CommandLine) -> None:
    refused = cli("model", "pull", "mobileclip2-s3", expect=2).stderr
    assert "there is nothing to fetch" in refused
    assert "model export mobileclip2-s3" in refused
    assert "--accept-licence" not in refused
    assert "fetching" not in refused


def test_the_list_says_whether_a_variant_agrees(cli: CommandLine, hub: Hub) -> None:
    own = own_models_file()
    own.write_text(TINY_ROW.replace('languages = ["en"]', "languages = []"))
    assert "  size unknown, Apache-2.0. " in cli("model", "list").text
    cli("model", "pull", "--precision", "int8", "tiny")
    assert models(cli)["tiny"]["agreement"] is None
    assert models(cli)["tiny-int8"]["agreement"] == "not yet shown to agree with tiny"
    assert "on disk, not yet shown to agree with tiny." in cli("model", "list").text
    path = models_directory() / "tiny-int8" / "model.toml"
    text = path.read_text(encoding="utf-8")
    for recall, words in ((0.99, "agrees with tiny"), (0.5, "differs from tiny")):
        measured = f"mean_cosine = 0.999\nworst_cosine = 0.99\nrecall_at_10 = {recall}\n"
        path.write_text(f"{text}\n[variant.agreement]\npictures = 500\n{measured}")
        assert models(cli)["tiny-int8"]["agreement"] == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp32"], "--precision need --as NAME"),
        (["--logit-scale", "100", "--logit-bias", "-12"], "--logit-scale and --logit-bias need"),
        (["--as", "tiny", "--logit-bias", "-12"], "--logit-bias needs --logit-scale"),
        (["--as", "tiny", "--logit-scale", "4.6", "--logit-bias", "-12"], "--logit-scale 4.6"),
    ],
)
def test_an_option_of_add_that_would_mean_nothing_is_refused(
    cli: CommandLine, hub: Hub, tiny_foreign: Path, options: list[str], words: str
) -> None:
    assert words in cli("model", "add", tiny_foreign, *options, expect=2).stderr
    assert not models(cli)["tiny"]["installed"]


def test_conditions_need_consent(cli: CommandLine, hub: Hub) -> None:
    own = own_models_file()
    own.write_text(
        TINY_ROW.replace(
            'licence = "Apache-2.0"',
            'licence = "research"\nlicence_url = "https://example.org/licence"\n'
            'licence_conditions = "For research only."',
        )
    )
    refused = cli("model", "pull", "tiny", expect=2).stderr
    assert "For research only." in refused
    assert "--accept-licence" in refused
    assert hub.requests == []
    cli("model", "pull", "--accept-licence", "tiny")
    assert models(cli)["tiny"]["installed"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "installed"), [(b"n\n", False), (b"y\n", True)])
def test_on_a_terminal_the_conditions_are_shown_and_asked_for(
    cli: CommandLine, hub: Hub, answer: bytes, installed: bool
) -> None:
    import pty

    own = own_models_file()
    own.write_text(
        TINY_ROW.replace(
            'licence = "Apache-2.0"',
            'licence = "research"\nlicence_conditions = "For research only."',
        )
    )
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "model", "pull", "tiny"],
        env=cli.environment(),
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    seen = b""
    while b"Do you accept this?" not in seen:
        seen += os.read(parent, 4096)
    assert b"For research only." in seen
    assert hub.requests == []
    os.write(parent, answer)
    try:
        while os.read(parent, 4096):
            pass
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    process.wait(60)
    assert models(cli)["tiny"]["installed"] is installed


def test_a_mistake_in_ones_own_rows_names_file_row_and_key(cli: CommandLine) -> None:
    own = own_models_file()
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(TINY_ROW.replace("length = 16", 'length = "16"'))
    done = cli("model", "pull", "tiny", expect=2)
    assert f"{own}, row 'tiny': text.length is '16'; it must be a whole number" in done.stderr


@pytest.fixture
def tiny_foreign(hub: Hub, tmp_path: Path) -> Path:
    """The hub's files in one folder, as a user has downloaded them."""
    folder = tmp_path / "downloaded"
    for name, content in hub.files.items():
        path = folder / name.split("/", 2)[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        path.write_bytes(content)
    return folder


def test_a_foreign_folder_is_added_as_a_known_model(
    cli: CommandLine, hub: Hub, tiny_foreign: Path, pictures: Path
) -> None:
    cli("model", "add", tiny_foreign, "--as", "tiny")
    cli("index", "--model", "tiny", pictures)
    assert json.loads(cli("status", "--json").stdout)["model"] == "tiny"
    assert hub.requests == []
