"""The default scorer: greedy answer, strict reader."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.scoring.kinds import WITHHELD, KindReader
from emt_plugin.scoring.protocol import Observation, Score, ScorerContext, Want
from emt_plugin.scoring.reader import Reader


class AnswerScorer:
    """Right if and only if the answer names the image's class and no other class of the set."""

    name = "answer"
    version = "4"
    wants: frozenset[Want] = frozenset({"answer"})

    def __init__(self, context: ScorerContext) -> None:
        self._labels = context.labels
        self._reader = Reader(context.labels, context.stems, context.synonyms)
        self._kinds = KindReader(context.labels, context.frames, context.others, (*context.stems, *context.other_stems))

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """See ``Scorer``; ``labels`` must be those that the scorer was made for."""
        if tuple(labels) != self._labels:
            raise ValueError("the scorer was made for another label set")
        if observation.answer is None:
            raise ValueError("the answer scorer was handed an observation without an answer")
        if observation.withheld:
            return Score(prediction=None, correct=False, kind=WITHHELD, well_formed=False)
        reading = self._reader.read(observation.answer)
        return Score(
            prediction=reading.prediction,
            correct=reading.prediction == label,
            kind=self._kinds.kind(observation.answer, reading, label),
            well_formed=reading.well_formed,
        )
