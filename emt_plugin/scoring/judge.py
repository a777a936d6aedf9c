"""The judge scorer: an LLM rules whether an answer is right, as in the paper (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.scoring.protocol import Observation, Score, ScorerContext, Want
from emt_plugin.scoring.ruling import Ruling


class JudgeScorer:
    """Right if the judge says yes. A ruling that is neither yes nor no is an outcome of its own, never a no."""

    name = "judge"
    version = "1"
    wants: frozenset[Want] = frozenset({"answer"})
    classifies = False

    def __init__(self, context: ScorerContext) -> None:
        self._labels = context.labels
        if context.judge is None:
            raise ValueError("the judge scorer needs a judge")
        self._judge = context.judge
        self._rulings: dict[tuple[str, str], Ruling] = {}

    def prepare(self, observations: Sequence[Observation], labels: Sequence[int]) -> None:
        """Ask the judge about all of them at once, about equal ones once."""
        questions = dict.fromkeys(
            (self._labels[label], observation.answer or "") for observation, label in zip(observations, labels, strict=True)
        )
        self._rulings = dict(zip(questions, self._judge.ask(list(questions)), strict=True))

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """See ``Scorer``; the kind says no more than that it is unparseable: the judge names no class."""
        ruling = self._rulings.get((labels[label], observation.answer or ""))
        if ruling is None:
            (ruling,) = self._judge.ask([(labels[label], observation.answer or "")])
        if ruling.says == "unparseable":
            return Score(prediction=None, correct=None, kind="unparseable ruling", detail=ruling.text)
        return Score(prediction=None, correct=ruling.says == "yes", kind=None, detail=ruling.text)

    def facts(self) -> dict[str, object]:
        """The judge, and which of the paper's settings it did not take."""
        return self._judge.facts()
