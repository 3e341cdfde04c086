"""What it would cost to embed a library's pictures again with another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index import open_store
from siglip_search.engine.cheaper_choices import embedding_seconds
from siglip_search.engine.indexing import DECODE_SECONDS_PER_BYTE, Estimate

if TYPE_CHECKING:
    from siglip_search.engine.library import Library
    from siglip_search.models.spec import ModelSpec


def cost_of_embedding_again(library: Library, spec: ModelSpec) -> Estimate:
    """Return how many pictures that would be, and about how long it would take.

    Args:
        library: With pictures.
        spec: The other model; one of its embeddings is timed.

    Raises:
        ModelError: Its picture tower cannot be opened or fails.
        StoreError: The library cannot be read.
    """
    from siglip_search.towers.vision import VisionTower

    with open_store(library.directory, writable=False) as store:
        sizes = {
            file.photo_id: file.fingerprint.size
            for root in store.roots()
            for file in store.files(root.id)
            if file.present and file.photo_id is not None
        }
        done = store.photos_in_space(spec.space_key)
    left = [size for photo_id, size in sizes.items() if photo_id not in done]
    options = library.index_options()
    tower = VisionTower(spec, threads=1, device=options.device)
    per_picture = embedding_seconds(spec, tower)
    seconds = len(left) * per_picture + sum(left) * DECODE_SECONDS_PER_BYTE
    return Estimate(len(left), seconds / options.jobs, spec.name)
