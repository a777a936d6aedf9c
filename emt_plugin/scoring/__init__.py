"""Observations become scores. Pure: no torch, no pytest."""

from emt_plugin.scoring.answer import AnswerScorer
from emt_plugin.scoring.protocol import FailureKind, Observation, Score, Scorer, Want
from emt_plugin.scoring.reader import Reader, Reading

__all__ = ["AnswerScorer", "FailureKind", "Observation", "Reader", "Reading", "Score", "Scorer", "Want"]
