"""What the scorers make of a reference model, once for each image set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from emt_plugin.data import ImageSet
from emt_plugin.evaluation.at_hand import AtHand
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.progress import Progress
from emt_plugin.evaluation.scorers import PairScorers
from emt_plugin.gate import Reference
from emt_plugin.records import Row
from emt_plugin.scoring import Score
from emt_plugin.store import key_hash

# Of a model, an image set, and the model whose text tower reads answers.
MakeScorers = Callable[[Model, ImageSet, Model], PairScorers]


@dataclass(frozen=True)
class ReferenceScores:
    """What a reference model's scorers made of the images of one set.

    Attributes:
        against: the model.
        at: its scores of an image by the image's place among theirs; places are asked for in their order.
    """

    against: Reference
    at: Callable[[int], dict[str, Score]]


class References:
    """Reference models and what was made of them.

    Args:
        at_hand: where they are.
        scorers: makes the scorers of a pair.
        progress: shows how far the work is.
        as_needed: measure no image before it is asked for.
    """

    def __init__(self, at_hand: AtHand, scorers: MakeScorers, progress: Progress, as_needed: bool = False) -> None:
        self._as_needed = as_needed
        self._at_hand = at_hand
        self._scorers = scorers
        self._progress = progress
        self._known: dict[str, ReferenceScores] = {}

    def named(self, model: Model, image_set: ImageSet) -> ReferenceScores | None:
        """Of the model that was named as reference; None where none was."""
        reference = self._at_hand.reference
        if reference is None:
            return None
        # The model's text tower reads both: its reference has none of its own.
        if self._as_needed:
            return self._growing(reference, model, image_set)
        return self._once(reference, model, image_set, "model")

    def base(self, model: Model, image_set: ImageSet) -> ReferenceScores | None:
        """Of the base of a trajectory; None where ``model`` is the base.

        Base and checkpoint are never in memory together: with adapters that would take twice the base's.
        """
        base = self._at_hand.base(model)
        if base is None:
            return None
        if _known_as(base, base, image_set) not in self._known:
            model.free()
        found = self._once(base, base, image_set, "checkpoint")
        base.free()
        return found

    def as_base(self, model: Model, image_set: ImageSet, rows: Sequence[Row]) -> tuple[list[Row], ReferenceScores]:
        """The rows of a base compared with itself, which is how far its trajectory begins."""
        against = Reference("checkpoint", model.spec.id)
        scores = [{name: Score(**score) for name, score in row.scores.items()} for row in rows]
        found = ReferenceScores(against, scores.__getitem__)
        self._known[_known_as(model, model, image_set)] = found
        return [
            replace(
                row,
                references={**row.references, against.key: row.prediction},
                reference_correct={
                    **row.reference_correct,
                    against.key: {name: bool(score.correct) for name, score in mine.items()},
                },
            )
            for row, mine in zip(rows, scores, strict=True)
        ], found

    def _once(
        self, model: Model, embedder: Model, image_set: ImageSet, kind: Literal["model", "checkpoint"]
    ) -> ReferenceScores:
        known = _known_as(model, embedder, image_set)
        if known not in self._known:
            self._known[known] = self._scored(model, embedder, image_set, kind)
        return self._known[known]

    def _scored(
        self, model: Model, embedder: Model, image_set: ImageSet, kind: Literal["model", "checkpoint"]
    ) -> ReferenceScores:
        scorers = self._scorers(model, image_set, embedder)
        scores: list[dict[str, Score]] = []
        with self._progress(f"{model.spec.id}/{image_set.spec.id}", len(image_set.items)) as advance:
            for batch in scorers.observer.observed(image_set.items):
                scores += scorers.scores(batch)
                advance(len(batch))
        return ReferenceScores(Reference(kind, model.spec.id), scores.__getitem__)

    def _growing(self, model: Model, embedder: Model, image_set: ImageSet) -> ReferenceScores:
        """Scores that grow by a batch where an image is asked for that is not among them yet."""
        scorers = self._scorers(model, image_set, embedder)
        batches = scorers.observer.observed(image_set.items)
        scores: list[dict[str, Score]] = []

        def at(position: int) -> dict[str, Score]:
            while len(scores) <= position:
                scores.extend(scorers.scores(next(batches)))
            return scores[position]

        return ReferenceScores(Reference("model", model.spec.id), at)


def _known_as(reference: Model, embedder: Model, image_set: ImageSet) -> str:
    """All that decides the scores of a reference: its weights and settings, who embeds answers, and the images."""
    return key_hash(
        {**reference.key, "embedder": dict(embedder.encoder_key), "images": [repr(image_set.spec), image_set.fingerprint]}
    )
