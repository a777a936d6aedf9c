"""Scorers by name: those that come with the package, and those that others bring by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

from emt_plugin.scoring.answer import AnswerScorer
from emt_plugin.scoring.judge import JudgeScorer
from emt_plugin.scoring.likelihood import LikelihoodScorer
from emt_plugin.scoring.protocol import Scorer, ScorerContext
from emt_plugin.scoring.text_embedding import TextEmbeddingScorer

GROUP = "pytest_emt.scorers"
ScorerFactory = Callable[[ScorerContext], Scorer]
OWN: Mapping[str, ScorerFactory] = {
    scorer.name: scorer for scorer in (AnswerScorer, LikelihoodScorer, TextEmbeddingScorer, JudgeScorer)
}


class ScorerError(ValueError):
    """A scorer that a user has to name otherwise or to install anew; the message says how."""


def known_scorers() -> list[str]:
    """Names of all scorers, ours first."""
    return [*OWN, *(name for name in _foreign() if name not in OWN)]


def scorer_factory(name: str) -> ScorerFactory:
    """What makes the scorer of a name for an image set.

    Raises:
        ScorerError: there is none of that name, or it cannot be imported.
    """
    if name in OWN:
        return OWN[name]
    found = _foreign().get(name)
    if found is None:
        raise ScorerError(f"unknown scorer '{name}'; known: {', '.join(known_scorers())}")
    try:
        factory: ScorerFactory = found.load()
    except Exception as error:  # Whatever a stranger's module leads to.
        raise ScorerError(f"the scorer '{name}' ({found.value}) cannot be imported ({type(error).__name__}: {error})") from None
    return factory


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
