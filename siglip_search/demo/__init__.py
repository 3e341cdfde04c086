"""The bundled demonstration: a tiny model and a gallery of drawings with known truth.

Data only. The model is a demonstration on drawings, not photographs; README.md beside this file
says how it was made and how well it does.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["gallery_directory", "model_directory"]

_HERE = Path(__file__).resolve().parent


def model_directory() -> Path:
    """Return the model folder: two ONNX towers, a tokenizer and model.toml."""
    return _HERE / "model"


def gallery_directory() -> Path:
    """Return the folder of drawn pictures; gallery.json in it says what each shows."""
    return _HERE / "gallery"
