"""The paper's alternative scorer (appendix D.4): the class whose text embedding is nearest to the whole answer's."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.scoring.protocol import Observation, Score, ScorerContext, Want
from emt_plugin.scoring.tokens import words_of


class TextEmbeddingScorer:
    """The label whose name the encoder's text tower puts nearest to the answer; it forgives any form."""

    name = "text-embedding"
    version = "1"
    wants: frozenset[Want] = frozenset({"answer"})

    def __init__(self, context: ScorerContext) -> None:
        self._nearest = context.nearest
        self._known: dict[str, int] = {}

    def prepare(self, observations: Sequence[Observation], labels: Sequence[int]) -> None:
        """Embed the batch's distinct answers at once."""
        new = dict.fromkeys(text for one in observations if (text := one.answer or "") not in self._known)
        if new:
            self._known.update(zip(new, self._nearest(list(new)), strict=True))

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """See ``Scorer``; an answer without a word is near to nothing."""
        if not words_of(observation.answer or ""):
            return Score(prediction=None, correct=False, kind="nothing")
        self.prepare([observation], [label])
        prediction = self._known[observation.answer or ""]
        correct = prediction == label
        return Score(prediction=prediction, correct=correct, kind=None if correct else "wrong class")
