"""The cells of the tables that terminal, summary and page share."""

from __future__ import annotations

from emt_plugin.analysis.steps import ANSWER, CLEAN_ANSWER, ENCODER, ORDER
from emt_plugin.records import PairRecord, RunRecord
from emt_plugin.report.words.verdicts import accuracies, interval, percent, points, verdict

HEAD = ("pair", "n", "model", "reference", "gap", "90% interval", "tolerance", "no class", "well formed", "verdict")


def cells(pair: PairRecord) -> tuple[str, ...]:
    """The cells of one pair."""
    comparison = pair.gating
    if comparison is None:
        return (pair.key.id, str(pair.n or "–"), *["–"] * 7, verdict(pair))
    model, reference = accuracies(comparison)
    score = pair.scores[0]
    return (
        pair.key.id,
        str(pair.n),
        percent(model),
        percent(reference),
        points(comparison.gap),
        interval(comparison),
        f"{100 * comparison.tolerance.value:.3g}",
        percent(score.no_class, pair.n) if score.no_class is not None else "–",
        percent(score.well_formed, pair.n) if score.well_formed is not None else "–",
        verdict(pair),
    )


def step_rows(run: RunRecord) -> list[tuple[str, ...]]:
    """Accuracy at each step of each pair, with a head; empty where there is no more than the verdict's own two."""
    names = [name for name in ORDER if any(step.name == name for pair in run.pairs for step in pair.steps)]
    if not set(names) - {ENCODER, ANSWER, CLEAN_ANSWER}:
        return []
    rows = [("pair", *names)]
    for pair in run.pairs:
        found = {step.name: step for step in pair.steps}
        if found:
            cells = (percent(found[name].correct, pair.n) if name in found else "–" for name in names)
            rows.append((pair.key.id, *cells))
    return rows


def other_rows(run: RunRecord) -> list[tuple[str, ...]]:
    """What the scorers that do not gate found, with a head; empty without any."""
    rows = []
    for pair in run.pairs:
        for comparison in pair.comparisons:
            gating = pair.gating
            if gating and comparison.scorer != gating.scorer and comparison.reference == gating.reference:
                model, reference = accuracies(comparison)
                cells = (percent(model), percent(reference), points(comparison.gap), interval(comparison))
                rows.append((pair.key.id, comparison.scorer, *cells))
    return [("pair", "scorer", "model", "reference", "gap", "90% interval"), *rows] if rows else []
