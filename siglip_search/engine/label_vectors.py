"""The vectors of a vocabulary's labels, kept in the library: each label costs several sentences.

A record a space, so that adding one picture to a library does not load a text tower, nor does one
more label embed the others again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.search.classify import prompts_for, prototypes_of
from siglip_search.towers.devices import is_compiled

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from siglip_index.protocol import Store, StoreWriter
    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.vocabulary import Vocabulary
    from siglip_search.towers.session import Device

RECORD_KIND: Final = "label-vectors"
"""Of the library's records: by the key of the embedding space."""

_FORMAT: Final = 1
_NUMBERS: Final = "<f4"

# With the usual templates 8 sentences, which a large tower embeds in half a second on two cores:
# so often the signal to stop is looked at, by which a service manager knows that a run is alive.
_LABELS_AT_ONCE: Final = 2


def label_vectors(
    store: Store,
    spec: ModelSpec,
    vocabulary: Vocabulary,
    *,
    stop: threading.Event,
    device: Device = "cpu",
    embed_missing: bool = True,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> NDArray[np.float32] | None:
    """Return one unit vector a label, shape (labels, dimension).

    Those that the library keeps are taken; the text tower makes the others, and they are kept.

    Args:
        store: Opened for writing; it knows the model's space.
        spec: The model.
        vocabulary: The labels.
        stop: When set, the text tower is left off, what it has made is kept, and None returned.
        device: Where the text tower runs if it is compiled for an NPU; the processor, otherwise.
        embed_missing: Open the text tower, which takes minutes for many labels and a large model;
            otherwise None is returned where the library does not keep all.
        on_progress: Called with the number of labels done, and of all that are not kept.

    Raises:
        ModelError, DeviceError: The text tower cannot be opened or fails.
        StoreError: The library cannot be written.
    """
    kept = _read(store.records(RECORD_KIND).get(spec.space_key), spec, vocabulary.templates)
    missing = [label for label in vocabulary.labels if label not in kept]
    if missing and embed_missing:
        made = _embedded(
            spec, missing, vocabulary.templates, stop=stop, device=device, on_progress=on_progress
        )
        kept |= made
        if made:
            # Also of a run that was stopped: a daemon's is, by each picture that comes meanwhile.
            have = [label for label in vocabulary.labels if label in kept]
            _keep(store, spec, vocabulary.templates, have, np.stack([kept[one] for one in have]))
    if any(label not in kept for label in vocabulary.labels):
        return None
    return np.stack([kept[label] for label in vocabulary.labels])


def forget_label_vectors(store: Store, writer: StoreWriter) -> None:
    """Delete what is kept, of all spaces."""
    for key in store.records(RECORD_KIND):
        writer.put_record(RECORD_KIND, key, None)


def _embedded(
    spec: ModelSpec,
    labels: Sequence[str],
    templates: Sequence[str],
    *,
    stop: threading.Event,
    device: Device,
    on_progress: Callable[[int, int], None],
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of labels; of the first of them if it is stopped."""
    from siglip_search.towers.text import TextTower

    made: dict[str, NDArray[np.float32]] = {}
    if stop.is_set():
        return made
    on_progress(0, len(labels))
    tower = TextTower(spec, device=device if is_compiled(spec.text_path) else "cpu")
    for start in range(0, len(labels), _LABELS_AT_ONCE):
        if stop.is_set():
            break
        some = labels[start : start + _LABELS_AT_ONCE]
        vectors = prototypes_of(tower.embed(prompts_for(some, templates)), labels=len(some))
        made |= zip(some, vectors, strict=True)
        on_progress(len(made), len(labels))
    return made


def _keep(
    store: Store,
    spec: ModelSpec,
    templates: Sequence[str],
    labels: Sequence[str],
    vectors: NDArray[np.float32],
) -> None:
    numbers = vectors.astype(_NUMBERS).tobytes()
    value = json.dumps(
        {
            "format": _FORMAT,
            "templates": templates,
            "labels": labels,
            "sha256": hashlib.sha256(numbers).hexdigest(),
            "vectors": base64.b64encode(numbers).decode("ascii"),
        }
    )
    spaces = {space.key for space in store.spaces()}
    with store.write() as writer:
        writer.put_record(RECORD_KIND, spec.space_key, value)
        for key in store.records(RECORD_KIND).keys() - spaces:
            writer.put_record(RECORD_KIND, key, None)  # of a model that was removed


def _read(
    value: str | None, spec: ModelSpec, templates: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of a record by label; none if they are of other templates, or damaged."""
    if value is None:
        return {}
    try:
        record = json.loads(value)
        if record["format"] != _FORMAT or record["templates"] != list(templates):
            return {}
        numbers = base64.b64decode(record["vectors"], validate=True)
        if record["sha256"] != hashlib.sha256(numbers).hexdigest():
            return {}
        labels = record["labels"]
        vectors = np.frombuffer(numbers, _NUMBERS).reshape(len(labels), spec.dimension)
        return dict(zip(labels, vectors.astype(np.float32), strict=True))
    except (ValueError, KeyError, TypeError, binascii.Error):
        return {}
