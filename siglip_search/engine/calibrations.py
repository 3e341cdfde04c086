"""Which calibration holds for a library, and the pictures that are its queries' background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search import demo
from siglip_search.errors import ModelError
from siglip_search.search.calibration import Calibration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.models.spec import ModelSpec

CALIBRATION_FILE: Final = "calibration.json"
"""Of a model folder: the fit that comes with the model."""

RECORD_KIND: Final = "calibration"
"""Of the library's records: the user's own fit, by the key of the embedding space."""

SAMPLE_PICTURES: Final = 256
"""Most pictures of a background: its location is known to 1/16 of its spread, its spread to 1/22.
More would cost a first question more milliseconds than they would change probabilities by."""


def calibration_for(spec: ModelSpec, store: Store) -> Calibration | None:
    """Return how the scores of a model are calibrated in a library.

    Args:
        spec: The model whose space is searched.
        store: The library; what its user fitted goes before what came with the model.

    Returns:
        None where nobody has fitted any: then scores are uncalibrated.

    Raises:
        ModelError: The fit that came with the model cannot be understood.
    """
    own = store.records(RECORD_KIND).get(spec.space_key)
    if own is not None:
        try:
            return Calibration.from_json(own)
        except ValueError:
            # Written by a newer version: the user's judgements are kept apart and can be fitted
            # again, and until then the model's own fit is better than none.
            pass
    return shipped_calibration(spec)


def shipped_calibration(spec: ModelSpec) -> Calibration | None:
    """Return the fit that came with a model, None where none did or it is of other weights.

    Raises:
        ModelError: It cannot be understood.
    """
    # A variant that agrees with the bundled model lies in another folder, in the same space.
    for folder in dict.fromkeys((spec.directory, demo.model_directory())):
        path = folder / CALIBRATION_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read: {error.strerror or error}",
                hint="Check the file's permissions.",
            ) from error
        if f'"{spec.space_key}"' not in text:
            continue
        try:
            return Calibration.from_json(text)
        except ValueError as error:
            raise ModelError(
                f"{path} cannot be understood: {error}",
                hint="Remove it, or get the model anew; without it scores are uncalibrated.",
            ) from error
    return None


def background_sample(store: Store, space_key: str) -> NDArray[np.float32]:
    """Return vectors of pictures of a library, chosen without regard to any query.

    Args:
        store: The library.
        space_key: The embedding space.

    Returns:
        Unit vectors, shape (n, dimension), n at most `SAMPLE_PICTURES`; the same ones until the
        library changes, so callers keep them as long as its generation stays.
    """
    ids = store.sample_ids(space_key, SAMPLE_PICTURES)
    return store.vectors(space_key, [int(photo) for photo in ids])
