"""The default scorer: greedy answer, strict reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emt_plugin.scoring.protocol import FailureKind, Observation, Score, Want
from emt_plugin.scoring.reader import Reader, Reading


class AnswerScorer:
    """Right if and only if the answer names the image's class and no other class of the set.

    Args:
        labels: the label names of the image set.
        stems: openings that an answer may have and still be well formed.
    """

    name = "answer"
    version = "1"
    wants: frozenset[Want] = frozenset({"answer"})

    def __init__(self, labels: Sequence[str], stems: Iterable[str] = ()) -> None:
        self._labels = tuple(labels)
        self._reader = Reader(labels, stems)

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """See ``Scorer``; ``labels`` must be those that the scorer was made for."""
        if tuple(labels) != self._labels:
            raise ValueError("the scorer was made for another label set")
        if observation.answer is None:
            raise ValueError("the answer scorer was handed an observation without an answer")
        reading = self._reader.read(observation.answer)
        return Score(
            prediction=reading.prediction,
            correct=reading.prediction == label,
            kind=failure_kind(reading, label),
            well_formed=reading.well_formed,
        )


def failure_kind(reading: Reading, label: int) -> FailureKind | None:
    """What sort of wrong a reading is, None where it is right. The one place where failure kinds are defined."""
    if reading.empty or reading.refused:
        return "no answer"
    if len(reading.named) > 1:
        return "several classes"
    if not reading.named:
        return "outside the label set"
    return None if reading.prediction == label else "wrong class"
