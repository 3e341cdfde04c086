"""Why a picture answers a question: what its words did, and which parts of the picture."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from siglip_search.engine.heatmap_files import save_heatmap
from siglip_search.engine.patch_maps import PatchMaps
from siglip_search.errors import QueryError, UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.attribution import (
    NO_WORDS,
    deciding_question,
    direction,
    effects,
    terms_of,
    without_each,
)
from siglip_search.search.question import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.engine.answering import Answering
    from siglip_search.engine.library import Library
    from siglip_search.engine.patch_maps import PatchMap, PatchMethod
    from siglip_search.search.attribution import Effect
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import Hit


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """How answers are explained.

    Attributes:
        hits: Of the first so many, > 0.
        method: How the parts of a picture are tried; None for its words alone.
        max_seconds: How long hiding parts of one picture may take, > 0: fewer and larger parts are
            hidden where the tower is slow, 9 at least. It stops after twice the time.
        heatmaps: Folder for pictures of the maps; None for none.
    """

    hits: int = 3
    method: PatchMethod | None = "auto"
    max_seconds: float = 60.0
    heatmaps: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class HitExplanation:
    """Why one picture answers.

    Attributes:
        photo_id: Number of the content in the library.
        rank: Of the hit.
        path: The file that was looked at.
        asked: The text that decided, as people would say it.
        unit: Of the score and of all differences.
        score: Of the library's vector.
        parts: What each part of the question does to it, in the question's order.
        patches: What the parts of the picture do; None where they were not tried.
        problem: Why they were not, though it was asked for.
        heatmap: Where the map was drawn.
    """

    photo_id: int
    rank: int
    path: str
    asked: str
    unit: Literal["logit", "cosine"]
    score: float
    parts: tuple[Effect, ...]
    patches: PatchMap | None = None
    problem: str | None = None
    heatmap: Path | None = None


def explain_hits(
    library: Library,
    question: Question,
    hits: Sequence[Hit],
    options: ExplainOptions,
    *,
    on_progress: Callable[[int, float], None] = lambda _hit, _share: None,
) -> Iterator[HitExplanation]:
    """Yield an explanation for each of the first hits, as soon as it is there.

    A picture that is gone, damaged or changed gets its words explained, and says why there is no
    map. One that the library has forgotten meanwhile is passed over.

    Args:
        library: Which answered.
        question: What was asked.
        hits: What it answered.
        options: How to explain.
        on_progress: Called with the place of the hit in work, from 0, and its share that is done.

    Raises:
        QueryError: The question is a filter alone.
        ModelError: A tower cannot be loaded or fails, or attention was asked for and none of the
            installed towers shows it.
        DeviceError: The device was asked for by name and cannot be used, or fails.
        WorkerError: The decoding processes cannot be started.
        PathError: A map cannot be written.
    """
    if not question.has_score:
        raise QueryError(
            "a filter alone gives no scores, and there is nothing to explain",
            hint="Ask for something in words, or leave --explain out.",
        )
    answering = library.answering()
    with closing(_Explaining(library, answering, checked(question), options)) as explaining:
        first = hits[: options.hits]
        numbers = [hit.photo_id for hit in first]
        # A picture may have been forgotten since it was found.
        known = answering.store.photos_in_space(answering.spec.space_key, numbers)
        for place, hit in enumerate(first):
            if hit.photo_id in known:
                yield explaining.explain(hit, partial(on_progress, place))


class _Explaining:
    """A question, with what its explanations share."""

    def __init__(
        self, library: Library, answering: Answering, question: Question, options: ExplainOptions
    ) -> None:
        self._answering = answering
        self._question = question
        self._heatmaps = options.heatmaps
        self._vectors = answering.vectors(question)
        self._texts = dict(self._vectors.texts)
        indexing = library.index_options()
        self._limits = DecodeLimits(
            max_pixels=indexing.max_pixels,
            max_seconds=indexing.max_seconds,
            download_cloud=indexing.download_cloud,
        )
        self._maps = None
        if options.method is not None:
            self._maps = PatchMaps(
                answering.spec,
                method=options.method,
                max_seconds=options.max_seconds,
                limits=self._limits,
                device=indexing.device,
            )

    def close(self) -> None:
        """Let go of what was opened."""
        if self._maps is not None:
            self._maps.close()

    def explain(self, hit: Hit, on_progress: Callable[[float], None]) -> HitExplanation:
        """Explain one hit; see `explain_hits`."""
        store, spec = self._answering.store, self._answering.spec
        (stored,) = store.vectors(spec.space_key, [hit.photo_id])
        picture = stored / np.linalg.norm(stored)  # half precision does not keep the length
        asked = deciding_question(self._question, self._texts, picture)
        scale, bias = spec.score.logit_scale, spec.score.logit_bias or 0.0
        if asked.has_picture or asked.is_shifted:
            scale, bias = 1.0, 0.0
        self._embed_what_is_left(asked)
        pictures = self._vectors.pictures
        towards = direction(terms_of(asked), self._texts, pictures).astype(np.float64)

        def score(vector: NDArray[Any]) -> float:
            return scale * float(vector @ towards) + bias

        explanation = HitExplanation(
            photo_id=hit.photo_id,
            rank=hit.rank,
            path=hit.path,
            asked=str(asked),
            unit="cosine" if asked.has_picture or asked.is_shifted else "logit",
            score=score(picture),
            parts=effects(asked, picture, self._texts, pictures, scale=scale),
        )
        return self._with_map(explanation, hit, score, on_progress)

    def _embed_what_is_left(self, asked: Question) -> None:
        """Embed the texts of a question with parts left out, all at once."""
        texts = {term.text for _, terms in without_each(asked) for term in terms}
        new = sorted(text for text in texts if text is not None and text not in self._texts)
        # The empty text is embedded bare: "a photo of a" is no absence of words.
        bare = [text for text in new if text == NO_WORDS or not asked.templates]
        said = [text for text in new if text not in bare]
        for some, templates in ((bare, False), (said, True)):
            if some:
                vectors = self._answering.text_vectors(some, templates=templates)
                self._texts.update(zip(some, vectors, strict=True))

    def _with_map(
        self,
        explanation: HitExplanation,
        hit: Hit,
        score: Callable[[NDArray[Any]], float],
        on_progress: Callable[[float], None],
    ) -> HitExplanation:
        if self._maps is None:
            return explanation
        known = {photo.content_hash for photo in self._answering.store.photos([hit.photo_id])}
        try:
            path, prepared = self._maps.decoded((hit.path, *hit.copies), known)
        except UnreadablePictureError as error:
            return replace(explanation, problem=str(error))
        patches = self._maps.map(prepared, score, on_progress)
        if patches is None:
            return replace(explanation, problem="the machine became too slow: give it more time")
        explanation = replace(explanation, path=path, patches=patches)
        if self._heatmaps is None:
            return explanation
        caption = f"{explanation.asked}: {explanation.score:+.2f} ({explanation.unit})"
        try:
            heatmap = save_heatmap(
                self._heatmaps, explanation.rank, path, patches, caption, self._limits
            )
        except UnreadablePictureError as error:
            return replace(explanation, problem=str(error))
        return replace(explanation, heatmap=heatmap)
