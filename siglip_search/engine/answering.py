"""Questions become answers: towers make vectors of their terms, and the store is asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_index.records import Space
from siglip_search.search.candidates import Searched
from siglip_search.search.query import Vectors, find
from siglip_search.search.text_scores import Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_index.records import Where
    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import Answer
    from siglip_search.settings import Settings
    from siglip_search.towers.text import TextTower

_ATTEMPTS: Final = 20
"""At a sample of a library that is being pruned: commits are far rarer than that."""


class Answering:
    """One model that answers questions about one library; may be used by several threads.

    Args:
        spec: The model, of the space that is searched.
        store: The library.
        settings: Where the towers run, and what a picture may cost.
        one_shot: Tune for a single question in a fresh process, rather than for many.

    Attributes:
        spec: The model.
        store: The library.
    """

    def __init__(
        self, spec: ModelSpec, store: Store, settings: Settings, *, one_shot: bool = False
    ) -> None:
        self.spec = spec
        self.store = store
        self._settings = settings
        self._one_shot = one_shot
        self._opening = threading.Lock()
        self._tower: TextTower | None = None
        self._scale: tuple[int, Scale] | None = None

    def answer(self, question: Question) -> Answer:
        """Answer a question.

        Args:
            question: As `checked` returned it.

        Raises:
            QueryError: It cannot be answered; see `search.query.find`.
            PathError: A picture of it cannot be read.
            ModelError: A tower cannot be loaded or fails.
            DeviceError: The device was asked for by name and cannot be used, or fails.
        """
        space = Space(self.spec.space_key, self.spec.dimension, self.spec.name)
        return find(
            question,
            self.vectors(question),
            searched=Searched(self.store, space, self._where(question)),
            # Pictures alone, and filters, have no use for the calibration.
            scale=self.scale() if question.texts else self._own_scale(),
        )

    def vectors(self, question: Question) -> Vectors:
        """Return the terms of a question as the towers see them.

        Raises:
            As `answer`.
        """
        # The pictures first: whoever names a wrong one does not wait for the text tower.
        pictures = []
        if question.has_picture:
            from siglip_search.engine.query_pictures import indexed_pictures, query_pictures

            pictures = [
                *query_pictures(self.store, self.spec, question.like, self._settings),
                *indexed_pictures(self.store, self.spec, question.like_photo),
            ]
        texts = question.texts
        return Vectors(
            dict(
                zip(texts, self.text_vectors(texts, templates=question.templates), strict=True)
                if texts
                else ()
            ),
            [picture.vector for picture in pictures],
            frozenset(picture.photo_id for picture in pictures if picture.photo_id is not None),
        )

    def text_vectors(self, texts: Sequence[str], *, templates: bool = False) -> NDArray[np.float32]:
        """Return one unit vector a text, shape (n, dimension).

        Args:
            texts: Words; at least one.
            templates: Say each in several ways and take the direction of their mean.

        Raises:
            ModelError: The text tower cannot be loaded or fails.
            DeviceError: The device was asked for by name and cannot be used, or fails.
        """
        # One by one: in company the last bits of a vector would depend on the other texts, and a
        # text might match a picture in one question and not in another.
        tower = self._text_tower()
        if not templates:
            return np.concatenate([tower.embed([text]) for text in texts])
        from siglip_search.engine.classification import DEFAULT_TEMPLATES
        from siglip_search.search.classify import prompts_for, prototypes_of

        prompts = (tower.embed(prompts_for([text], DEFAULT_TEMPLATES)) for text in texts)
        return np.concatenate([prototypes_of(said, labels=1) for said in prompts])

    def scale(self) -> Scale:
        """Return what the cosine of a text with a picture of the library means now."""
        generation = self.store.generation()
        with self._opening:
            if self._scale is None or self._scale[0] != generation:
                self._scale = generation, self._scale_of_library()
            return self._scale[1]

    def _scale_of_library(self) -> Scale:
        from siglip_search.engine.calibrations import background_sample, calibration_for

        calibration = calibration_for(self.spec, self.store)
        if calibration is None:
            return self._own_scale()
        for attempt in range(_ATTEMPTS):
            try:
                sample = background_sample(self.store, self.spec.space_key)
                break
            except LookupError:
                # The sample is chosen by one look at the library and fetched by another, and a
                # picture of it may be pruned in between.
                if attempt + 1 == _ATTEMPTS:
                    raise
        pictures = self.store.photo_count()
        return self._own_scale()._replace(calibration=calibration, sample=sample, pictures=pictures)

    def _own_scale(self) -> Scale:
        """Return what the model itself says, without any calibration."""
        score = self.spec.score
        return Scale(score.logit_scale, score.logit_bias, score.min_probability)

    def _where(self, question: Question) -> Where | None:
        where = question.where
        if question.places:
            from siglip_search.engine.places import resolve_places

            # The places are looked for among what the other conditions leave.
            where = replace(where, photo_ids=resolve_places(self.store, question.places, where))
        return None if where.is_empty else where

    def _text_tower(self) -> TextTower:
        from siglip_search.towers.text import TextTower

        with self._opening:
            if self._tower is None:
                device = self._settings.device
                self._tower = TextTower(self.spec, one_shot=self._one_shot, device=device)
            return self._tower
