"""Train both towers together with the sigmoid loss on the exact truth of every pair."""

from __future__ import annotations

import copy
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sentencepiece
import torch
from torch import Tensor

from demo_model.captions import (
    Float,
    Query,
    altered,
    ask_about,
    in_other_words,
    natural_colours,
    say,
    strange_query,
    strange_words,
    truths,
)
from demo_model.checkpoints import note, restore, save, set_rate
from demo_model.pretraining import Labels
from demo_model.shards import Scenes, batches, load_scenes, to_tensor
from demo_model.tokenizer import Tokenizer
from demo_model.towers import DualTower, TextTower, VisionTower, sigmoid_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from demo_model.scenes import Truth


def build(config: dict[str, Any]) -> DualTower:
    """Return untrained towers of the configured size."""
    shape = config["model"]
    vision = VisionTower(shape["dimension"], shape["vision_widths"], shape["vision_blocks"])
    text = TextTower(
        shape["dimension"],
        vocabulary=shape["vocabulary"],
        width=shape["text_width"],
        layers=shape["text_layers"],
        length=shape["text_length"],
        pad_id=shape["pad_id"],
    )
    return DualTower(vision, text, shape["start_scale"], shape["start_bias"])


# --- words to ids ---------------------------------------------------------------------------


def train_tokenizer(work: Path, config: dict[str, Any]) -> Path:
    """Train the SentencePiece model on captions and dictionary words, once."""
    path = work / "tokenizer.model"
    if path.exists():
        return path
    rng = np.random.default_rng((config["seed"], 5))
    scenes = load_scenes(work / "scenes", "full")
    natural = natural_colours(work)
    words = strange_words(Path(config["model"]["word_list"]))
    lines = []
    for row in rng.integers(len(scenes.truth), size=40_000):
        query = ask_about(scenes.truth, int(row), rng, natural)
        lines.append(say(query, rng))
        if rng.random() < 0.2:
            lines.append(in_other_words(query, rng, words))
    lines += [words[int(i)] for i in rng.integers(len(words), size=30_000)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=config["model"]["vocabulary"],
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path


# --- batches of captions --------------------------------------------------------------------


@dataclass
class Asker:
    """Makes the captions of a batch and their truth."""

    natural: Float
    words: list[str]
    tokenizer: Tokenizer
    settings: dict[str, Any]

    def __call__(self, truth: Truth, rng: np.random.Generator) -> tuple[NDArray[np.int64], Float]:
        """Return ids (captions, n) and truth (pictures, captions)."""
        queries: list[Query] = []
        for _ in range(self.settings["captions_per_picture"]):
            queries += [
                ask_about(truth, row, rng, self.natural, wide=self.settings.get("wide", 0.0))
                for row in range(len(truth))
            ]
        chosen = rng.integers(len(queries), size=self.settings["hard_negatives"])
        queries += [altered(queries[int(i)], rng) for i in chosen]
        # A place alone among other words may as well be the place of something unknown.
        texts = [
            in_other_words(query, rng, self.words)
            if query.things and rng.random() < 0.3
            else say(query, rng)
            for query in queries
        ]
        for _ in range(self.settings["strange_captions"]):
            query, text = strange_query(self.words, rng)
            queries.append(query)
            texts.append(text)
        return self.tokenizer(texts, tight=True), truths(truth, queries, self.natural)


def _asker(work: Path, config: dict[str, Any], settings: dict[str, Any]) -> Asker:
    shape = config["model"]
    tokenizer = Tokenizer(
        train_tokenizer(work, config), length=shape["text_length"], pad_id=shape["pad_id"]
    )
    words = strange_words(Path(shape["word_list"]))
    return Asker(natural_colours(work), words, tokenizer, settings)


def embed_words(tower: TextTower, ids: NDArray[np.int64], device: torch.device) -> Tensor:
    """Embed rows of ids in three parts of like length, so that short ones need little padding."""
    lengths = (ids != tower.pad_id).sum(1) + 1
    order = np.argsort(lengths, kind="stable")
    parts = []
    for rows in np.array_split(order, 3):
        part = ids[rows, : min(int(lengths[rows].max()), ids.shape[1])]
        parts.append(tower(torch.from_numpy(np.ascontiguousarray(part)).to(device)))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return torch.cat(parts)[torch.from_numpy(back).to(device)]


# --- text first -----------------------------------------------------------------------------


@torch.inference_mode()
def _features(
    tower: VisionTower,
    scenes: Scenes,
    count: int,
    side: int,
    device: torch.device,
) -> Tensor:
    tower.eval()
    parts = []
    for start in range(0, count, 500):
        x = to_tensor(scenes.pixels(np.arange(start, min(start + 500, count))), side, device)
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(tower.features(x).float())
    tower.train()
    return torch.cat(parts).clone()


def teach_text(work: Path, config: dict[str, Any], device: torch.device) -> None:
    """Train the text tower against the pretrained, fixed picture tower."""
    final = work / "text.pt"
    if final.exists():
        return
    began = time.monotonic()
    settings = config["text"]
    torch.manual_seed(config["seed"] + 1)
    model = build(config).to(device)
    model.vision.to(memory_format=torch.channels_last)
    state = torch.load(work / "pretrained.pt", weights_only=True)["tower"]
    state = {key: value for key, value in state.items() if not key.startswith("project.")}
    model.vision.load_state_dict(state, strict=False)
    scenes = load_scenes(work / "scenes", "full")
    count = min(settings["scenes"], len(scenes.truth))
    features = _features(model.vision, scenes, count, config["model"]["image_side"], device)
    asker = _asker(work, config, config["joint"])
    learned = [
        *model.text.parameters(),
        *model.vision.project.parameters(),
        model.log_scale,
        model.bias,
    ]
    optimizer = torch.optim.AdamW(
        [{"params": learned, "peak": settings["peak_rate"]}], weight_decay=0.01
    )
    order = batches(count, settings["batch"], config["seed"] + 1, 0)
    total = 0.0
    for step in range(1, settings["steps"] + 1):
        rows = next(order)
        ids, truth = asker(
            scenes.truth.take(rows), np.random.default_rng((config["seed"], 7, step))
        )
        with torch.autocast(device.type, torch.bfloat16):
            texts = embed_words(model.text, ids, device)
        pooled = features[torch.from_numpy(rows)].to(device)
        pictures = model.vision.project(pooled)
        pictures = pictures / pictures.norm(dim=-1, keepdim=True)
        loss = sigmoid_loss(model.logits(pictures, texts), torch.from_numpy(truth).to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 2.0)
        set_rate(optimizer, step / settings["steps"])
        optimizer.step()
        total += float(loss.detach())
        if step % 250 == 0:
            note(
                work,
                {
                    "stage": "text",
                    "step": step,
                    "of": settings["steps"],
                    "loss": round(total / 250, 4),
                    "scale": round(float(model.log_scale.detach().exp()), 2),
                    "bias": round(float(model.bias.detach()), 2),
                },
            )
            total = 0.0
    note(work, {"stage": "text", "seconds": round(time.monotonic() - began)})
    save({"model": model.state_dict(), "step": 0}, final)


# --- both -----------------------------------------------------------------------------------


def _average(kept: DualTower, model: DualTower, decay: float) -> None:
    """Move the running average of weights and buffers towards the model."""
    with torch.no_grad():
        for old, new in zip(kept.state_dict().values(), model.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)


@dataclass(frozen=True)
class Stage:
    """One training of both towers.

    Attributes:
        name: Of its settings in config.toml and of its checkpoint.
        towers: File of the towers that it starts from.
        heads: File of the label heads that it starts from.
        number: Its place in the run, which tells its random numbers from those of the others.
    """

    name: str
    towers: str
    heads: str
    number: int


JOINT = Stage("joint", "text.pt", "pretrained.pt", 2)
FINISH = Stage("finish", "joint.pt", "joint.partial.pt", 3)
POLISH = Stage("polish", "finish.pt", "finish.partial.pt", 4)


def train(work: Path, config: dict[str, Any], device: torch.device, stage: Stage) -> None:
    """Train both towers; the checkpoint of the stage's name holds their running average at last."""
    final = work / f"{stage.name}.pt"
    if final.exists():
        return
    settings, shape, seed = config[stage.name], config["model"], config["seed"]
    torch.manual_seed(seed + stage.number)
    model = build(config).to(device)
    model.vision.to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(work / stage.towers, weights_only=True)["model"])
    heads = Labels(model.vision.width).to(device)
    heads.load_state_dict(torch.load(work / stage.heads, weights_only=True)["heads"])
    kept = copy.deepcopy(model)
    rate = settings["peak_rate"]
    vision = [*model.vision.parameters(), *heads.parameters()]
    text = [*model.text.parameters(), model.log_scale, model.bias]
    optimizer = torch.optim.AdamW(
        [
            {"params": vision, "peak": rate * settings["vision_rate_factor"]},
            {"params": text, "peak": rate},
        ],
        weight_decay=settings["weight_decay"],
    )
    steps = settings["pictures"] // settings["batch"]
    step = 0
    partial = work / f"{stage.name}.partial.pt"
    if partial.exists():
        saved = torch.load(partial, weights_only=True)
        model.load_state_dict(saved["raw"])
        kept.load_state_dict(saved["model"])
        heads.load_state_dict(saved["heads"])
        restore(optimizer, saved["optimizer"])
        step = saved["step"]
    scenes = load_scenes(work / "scenes", *settings["scenes"])
    asker = _asker(work, config, settings)
    order = batches(len(scenes.truth), settings["batch"], seed + stage.number, step)
    began, began_step = time.monotonic(), step
    sums: dict[str, float] = {}
    seen = 0
    while step < steps:
        rows = next(order)
        torch.manual_seed(seed * (stage.number * 1_000_000 + 3) + step)
        rng = np.random.default_rng((seed, 6 + stage.number, step))
        truth = scenes.truth.take(rows)
        ids, matches = asker(truth, rng)
        x = to_tensor(scenes.pixels(rows), shape["image_side"], device)
        with torch.autocast(device.type, torch.bfloat16):
            features = model.vision.features(x)
            pictures = model.vision.project(features).float()
            texts = embed_words(model.text, ids, device)
        pictures = pictures / pictures.norm(dim=-1, keepdim=True)
        loss = sigmoid_loss(model.logits(pictures, texts), torch.from_numpy(matches).to(device))
        label_loss, figures = heads.loss(features, truth)
        optimizer.zero_grad(set_to_none=True)
        (loss + settings["label_weight"] * label_loss).backward()
        torch.nn.utils.clip_grad_norm_([*vision, *text], 2.0)
        set_rate(optimizer, step / steps)
        optimizer.step()
        step += 1
        seen += 1
        _average(kept, model, min(settings["average_decay"], (1 + step) / (10 + step)))
        for key, value in {**figures, "loss": float(loss.detach())}.items():
            sums[key] = sums.get(key, 0) + value
        if step % 100 == 0 or step == steps:
            speed = (step - began_step) * settings["batch"] / (time.monotonic() - began)
            note(
                work,
                {
                    "stage": stage.name,
                    "step": step,
                    "of": steps,
                    "per_second": round(speed),
                    "scale": round(float(model.log_scale.detach().exp()), 2),
                    "bias": round(float(model.bias.detach()), 2),
                    **{key: round(value / seen, 4) for key, value in sums.items()},
                },
            )
            sums, seen = {}, 0
        if step % 250 == 0 or step == steps:
            save(
                {
                    "raw": model.state_dict(),
                    "model": kept.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                },
                partial,
            )
    note(
        work,
        {
            "stage": stage.name,
            "seconds": round(time.monotonic() - began),
            "steps": step - began_step,
        },
    )
    save({"model": kept.state_dict(), "step": step}, final)
