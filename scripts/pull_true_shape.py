"""Pull, index and query with a model of the true shape and size, from a hub of our own.

The hub is the tests' stand-in on the loopback; it serves siglip-base-patch16-384 under its real
repositories and file names, with random weights. The first pull is killed halfway and the second
goes on. What is found means nothing; what is fetched, kept and refused does.

The registry's row names the hash of the real tokenizer, which is not at hand here, so the same row
without that hash stands in a models.toml of its own.

    python scripts/pull_true_shape.py [DIRECTORY]     # needs about 2.5 GB there
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from random_tower import write_random_model  # noqa: E402
from stand_in_hub import Hub, preprocessor_config  # noqa: E402

from siglip_search import demo  # noqa: E402

NAME = "siglip-base-patch16-384"
CHECKPOINT, TOWERS = f"google/{NAME}", f"Xenova/{NAME}"
VISION = f"{TOWERS}/onnx/vision_model.onnx"
COMMAND = Path(sys.executable).with_name("siglip-search" + (".exe" if os.name == "nt" else ""))
LOG_SCALE, BIAS = math.log(117.33), -12.932


def main() -> None:
    """Do it all in a folder that is deleted afterwards, or in the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path, nargs="?")
    directory = parser.parse_args().directory
    if directory is not None:
        run(directory.absolute())
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))


def run(directory: Path) -> None:
    """Serve the model from `directory` and use it as a user would."""
    model = write_random_model(directory / "made", shape="base-384")
    weights = directory / "made" / "model.safetensors"
    write_checkpoint(weights)
    files: dict[str, bytes | Path] = {
        f"{CHECKPOINT}/model.safetensors": weights,
        f"{CHECKPOINT}/preprocessor_config.json": preprocessor_config(384),
        f"{CHECKPOINT}/spiece.model": (model / "tokenizer.model").read_bytes(),
        VISION: model / "vision.onnx",
        f"{TOWERS}/onnx/text_model.onnx": model / "text.onnx",
    }
    for name, content in files.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"served: {name}, {size:,} bytes")
    environment = own_environment(directory / "home")
    pictures = directory / "pictures"
    pictures.mkdir(exist_ok=True)
    for picture in sorted(demo.gallery_directory().rglob("*.jpg"))[:6]:
        shutil.copy(picture, pictures)
    with Hub(files).serving() as hub:
        environment["HF_ENDPOINT"] = hub.endpoint
        kill_halfway(hub, environment)
        command(environment, "model", "pull", NAME)
        print(f"        bytes served since: {dict(hub.sent_bytes)}")
        command(environment, "index", "--model", NAME, str(pictures))
        command(environment, "query", "--min-probability", "0", "-n", "3", "a red bicycle")
        command(environment, "verify")


def write_checkpoint(path: Path) -> None:
    """Write a checkpoint of the true size in which only scale and bias are not zero."""
    scalars = {"logit_bias": BIAS, "logit_scale": LOG_SCALE}
    filling = 812_672_000
    header: dict[str, Any] = {
        "all.the.rest": {
            "dtype": "F32",
            "shape": [filling // 4],
            "data_offsets": [0, filling],
        }
    }
    for number, name in enumerate(scalars):
        begin = filling + 4 * number
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [begin, begin + 4]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.seek(filling, os.SEEK_CUR)  # a hole, which costs no room where holes are known
        stream.write(b"".join(struct.pack("<f", value) for value in scalars.values()))


def own_environment(home: Path) -> dict[str, str]:
    """Return the environment of a user with nothing but a row of his own."""
    config = home / "config"
    rows = config / "siglip-search" / "models.toml"
    rows.parent.mkdir(parents=True, exist_ok=True)
    registry = resources.files("siglip_search.models").joinpath("registry.toml").read_text("utf-8")
    (row,) = (part for part in registry.split("[[model]]") if f'name = "{NAME}"\n' in part)
    lines = [line for line in row.splitlines() if not line.startswith("tokenizer_sha256")]
    rows.write_text("format = 1\n\n[[model]]" + "\n".join(lines), encoding="utf-8")
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(config),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HOME": str(home / "hf"),
        "NO_PROXY": "127.0.0.1",
        "SIGLIP_SEARCH_LIBRARY": str(home / "library"),
    }


def kill_halfway(hub: Hub, environment: dict[str, str]) -> None:
    """Kill a pull in the middle of the picture tower."""
    hub.stall_after[VISION] = 200_000_000
    process = subprocess.Popen([COMMAND, "model", "pull", NAME], env=environment)
    while hub.sent_bytes[VISION] < 200_000_000:
        if process.poll() is not None:
            raise SystemExit("the pull ended by itself")
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    print(f"killed; bytes served: {dict(hub.sent_bytes)}")
    hub.stall_after.clear()
    hub.forget()


def command(environment: dict[str, str], *arguments: str) -> None:
    """Run the installed command, and say how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    print(f"siglip-search {' '.join(arguments)}")
    for line in (done.stderr + done.stdout).splitlines():
        print(f"        {line}")
    print(f"        exit status {done.returncode}, {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
