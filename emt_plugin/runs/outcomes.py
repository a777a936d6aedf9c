"""The rows of a pair become what its record says: scores, comparisons, steps. No arithmetic but counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from emt_plugin.analysis.steps import (
    ANSWER,
    CLEAN_ANSWER,
    ENCODER,
    LIKELIHOOD,
    PROJECTOR_PROBE,
    VISION_PROBE,
    Outcome,
)
from emt_plugin.gate import Comparison, Reference, Tolerance, compare
from emt_plugin.records import Row, ScoreSummary, kind_rates
from emt_plugin.scoring import AnswerScorer, Scorer
from emt_plugin.scoring.diagnosis import Read, reading_facts


class CompareBy(Protocol):
    """Two lists of outcomes on the same images become a comparison."""

    def __call__(
        self,
        model: Sequence[bool],
        reference: Sequence[bool],
        against: Reference,
        tolerance: Tolerance,
        *,
        scorer: str,
        chance: float | None,
    ) -> Comparison:
        """See ``compare``."""
        ...


PROBES = (VISION_PROBE, PROJECTOR_PROBE)


def score_summary(scorer: Scorer, rows: Sequence[Row], labels: Sequence[str]) -> ScoreSummary:
    """What one scorer made of all images of a pair."""
    facts = getattr(scorer, "facts", None)
    return summary(
        scorer.name,
        scorer.version,
        rows,
        classifies=getattr(scorer, "classifies", True),
        facts=facts() if callable(facts) else reading(scorer.name, rows, labels),
    )


def summary(name: str, version: str, rows: Sequence[Row], classifies: bool, facts: Mapping[str, Any]) -> ScoreSummary:
    """What the rows hold of one scorer, counted.

    Args:
        name: the scorer's.
        version: the scorer's.
        rows: the images.
        classifies: whether it names classes.
        facts: what a reader should know of it.
    """
    scores = [row.scores[name] for row in rows]
    kinds: dict[str, int] = {}
    for score in scores:
        if score["kind"]:
            kinds[score["kind"]] = kinds.get(score["kind"], 0) + 1
    formed = [score["well_formed"] for score in scores]
    return ScoreSummary(
        scorer=name,
        version=version,
        correct=sum(bool(score["correct"]) for score in scores),
        no_class=sum(score["prediction"] is None for score in scores) if classifies else None,
        well_formed=None if None in formed else sum(map(bool, formed)),
        kinds=kind_rates(kinds, len(rows)),
        facts=facts,
    )


def reading(scorer: str, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, object]:
    """How answers were read, of the scorer that reads them."""
    if scorer != AnswerScorer.name or not rows:
        return {}
    scores = [row.scores[scorer] for row in rows]
    found = [
        Read(row.answer or "", score["prediction"], score["kind"], row.label) for row, score in zip(rows, scores, strict=True)
    ]
    return {"reader": reading_facts(found, labels)}


def comparisons(
    scorers: Sequence[str],
    references: Sequence[Reference],
    rows: Sequence[Row],
    chance: float,
    tolerance: Callable[[str, str], Tolerance],
    compared_by: CompareBy = compare,
) -> tuple[Comparison, ...]:
    """Every scorer's outcomes against every reference's, on the same images.

    Args:
        scorers: names, the one that gates first.
        references: what is compared with.
        rows: the images.
        chance: accuracy of one who does not look.
        tolerance: by the kind of reference and the scorer.
        compared_by: how two lists of outcomes are compared.
    """
    return tuple(
        compared_by(
            [bool(row.correct_by(scorer)) for row in rows],
            [row.reference_right(reference.key, scorer) for row in rows],
            reference,
            tolerance(reference.kind, scorer),
            scorer=scorer,
            chance=chance,
        )
        for scorer in scorers
        for reference in references
    )


def stage_outcomes(rows: Sequence[Row], encoder: Reference | None, probe_note: str) -> list[Outcome]:
    """Who was right at each step from the encoder to the answer, as far as it was measured."""
    outcomes = []
    if encoder:
        outcomes.append(Outcome(ENCODER, [row.references[encoder.key] == row.label for row in rows]))
    for name in PROBES:
        if all(name in row.probes for row in rows):
            outcomes.append(Outcome(name, [row.probes[name] == row.label for row in rows], probe_note))
    if all("likelihood" in row.scores for row in rows):
        outcomes.append(Outcome(LIKELIHOOD, [bool(row.correct_by("likelihood")) for row in rows]))
    if all("answer" in row.scores for row in rows):
        outcomes.append(Outcome(ANSWER, [bool(row.correct_by("answer")) for row in rows]))
        clean = [bool(row.correct_by("answer") and row.scores["answer"]["well_formed"]) for row in rows]
        outcomes.append(Outcome(CLEAN_ANSWER, clean))
    return outcomes
