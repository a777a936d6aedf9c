"""The verdict table that a run ends with."""

from __future__ import annotations

from emt_plugin.records import PairRecord, RunRecord
from emt_plugin.report.words import (
    accepted_note,
    accuracies,
    headline,
    interval,
    percent,
    points,
    to_settle,
    tower_warnings,
    verdict,
)

HEAD = ("pair", "n", "model", "reference", "gap", "90% interval", "tolerance", "no class", "well formed", "verdict")
LEFT = {0, 9}


def table(run: RunRecord) -> list[str]:
    """Lines of the summary: the headline, a row for each pair, and what must be said of some."""
    rows = [HEAD, *(row(pair) for pair in run.pairs)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEAD))]
    drawn = [
        "  ".join(
            cell.ljust(width) if column in LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in rows
    ]
    return [headline(run), "", *drawn, *notes(run)]


def row(pair: PairRecord) -> tuple[str, ...]:
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
        percent(score.no_class, pair.n),
        percent(score.well_formed, pair.n) if score.well_formed is not None else "–",
        verdict(pair),
    )


def notes(run: RunRecord) -> list[str]:
    """What must be said beside the table: reasons, what would settle a pair, accepted losses, towers."""
    said = []
    for pair in run.pairs:
        text = pair.reason if pair.gating is None else "; ".join(filter(None, (to_settle(pair), accepted_note(pair))))
        if text:
            said.append(f"{pair.key.id}: {text}")
    said += [f"attention: {warning}" for warning in tower_warnings(run)]
    if run.reason and all(pair.gating for pair in run.pairs):
        said.append(f"incomplete: {run.reason}")
    return ["", *said] if said else []
