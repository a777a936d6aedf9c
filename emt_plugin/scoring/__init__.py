"""Observations become scores. Pure: no torch, no pytest."""

from emt_plugin.scoring.answer import AnswerScorer
from emt_plugin.scoring.judge import JudgeScorer
from emt_plugin.scoring.kinds import FAILURE_KINDS, IN_THE_PAPER, FailureKind
from emt_plugin.scoring.likelihood import LikelihoodScorer
from emt_plugin.scoring.protocol import Observation, Prepared, Score, Scorer, ScorerContext, Want
from emt_plugin.scoring.reader import Reader, Reading
from emt_plugin.scoring.registry import ScorerError, known_scorers, scorer_factory
from emt_plugin.scoring.ruling import Ruling
from emt_plugin.scoring.text_embedding import TextEmbeddingScorer

__all__ = [
    "FAILURE_KINDS",
    "IN_THE_PAPER",
    "AnswerScorer",
    "FailureKind",
    "JudgeScorer",
    "LikelihoodScorer",
    "Observation",
    "Prepared",
    "Reader",
    "Reading",
    "Ruling",
    "Score",
    "Scorer",
    "ScorerContext",
    "ScorerError",
    "TextEmbeddingScorer",
    "Want",
    "known_scorers",
    "scorer_factory",
]
