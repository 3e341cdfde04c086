"""Train the bundled demonstration model from nothing, on scenes that it draws itself.

    python scripts/train_demo_model.py --work-dir build/demo-model

Six stages, each resumed where it stopped: draw scenes, pretrain the picture tower on labels, teach
the text tower, train both with the sigmoid loss, again on harder scenes, and a little more with
wider words. Then export to siglip_search/demo/model. Needs torch, onnx, sentencepiece, the two
fonts and a word list (Debian: fonts-noto-color-emoji, fonts-symbola, wamerican). All settings are
in demo_model/config.toml.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from demo_model import joint
from demo_model.checkpoints import note
from demo_model.export import export_model
from demo_model.pretraining import pretrain
from demo_model.scenes import load_config
from demo_model.shards import render_scenes

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        required=True,
        help="where scenes and checkpoints are kept (about 15 GB)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--stages",
        default="render,pretrain,text,joint,finish,polish,export",
        help="comma-separated; default: %(default)s",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "siglip_search/demo/model",
        help="model folder to write (default: %(default)s)",
    )
    arguments = parser.parse_args()
    work: Path = arguments.work_dir
    work.mkdir(parents=True, exist_ok=True)
    config = load_config("config.toml")
    torch.set_num_threads(config["threads"])
    device = torch.device(arguments.device)
    stages = arguments.stages.split(",")
    began = time.monotonic()
    if "render" in stages:
        render_scenes(work / "scenes", config, config["threads"])
    if "pretrain" in stages:
        pretrain(work, config, device)
    if "text" in stages:
        joint.teach_text(work, config, device)
    if "joint" in stages:
        joint.train(work, config, device, joint.JOINT)
    if "finish" in stages:
        joint.train(work, config, device, joint.FINISH)
    if "polish" in stages:
        joint.train(work, config, device, joint.POLISH)
    if "export" in stages:
        export_model(work, config, arguments.out)
    note(work, {"stages": stages, "seconds": round(time.monotonic() - began)})


if __name__ == "__main__":
    main()
