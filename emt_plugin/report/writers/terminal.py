"""The verdict table that a run ends with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from emt_plugin.errors import one_line
from emt_plugin.records import PairRecord, Row, RunChanges, RunRecord
from emt_plugin.report.words import since as since_words
from emt_plugin.report.words import trajectory as trajectory_words
from emt_plugin.report.words.tables import HEAD, cells, other_rows, step_rows
from emt_plugin.report.words.verdicts import (
    accepted_note,
    accuracies,
    asked,
    headline,
    interval,
    nothing_to_forget,
    percent,
    points,
    reader_notes,
    replayed,
    stopped_early,
    terms,
    to_settle,
    tower_warnings,
    where_it_falls,
)
from emt_plugin.runs.history import History

LEFT = {0, 9}


def table(run: RunRecord) -> list[str]:
    """Lines of the summary: the headline, a row for each pair, and what must be said of some."""
    lines = [headline(run), *([terms(run)] if terms(run) else [])]
    shown = [pair for pair in run.pairs if not in_a_trajectory(pair, run)]
    if shown:
        lines += ["", *drawn([HEAD, *(cells(pair) for pair in shown)], LEFT)]
    steps = step_rows(run)
    if steps:
        lines += ["", "accuracy from the encoder to the answer", *drawn(steps, {0})]
    others = other_rows(run)
    if others:
        lines += ["", "the scorers that do not gate", *drawn(others, {0, 1})]
    return lines + along(run) + notes(run) + since_words.lines(run) + _repeats(run)


def change_table(changes: RunChanges) -> list[str]:
    """The pairs that were compared with an earlier run, in columns."""
    head = ("pair", "n", "then", "now", "change", "90% interval", "right to wrong", "wrong to right", "tolerance", "verdict")
    rows = [head]
    for change in changes.pairs:
        comparison = change.comparison
        if comparison:
            now, then = accuracies(comparison)
            chance = " (may be chance)" if comparison.may_be_chance else ""
            rows.append(
                (
                    change.pair,
                    str(comparison.n11 + comparison.n10 + comparison.n01 + comparison.n00),
                    percent(then),
                    percent(now),
                    points(comparison.gap),
                    interval(comparison),
                    str(comparison.n01),
                    str(comparison.n10),
                    f"{100 * comparison.tolerance.value:.3g}",
                    f"{comparison.verdict}{chance}",
                )
            )
    return drawn(rows, LEFT)


def history_rows(history: History, most: int) -> Sequence[tuple[str, ...]]:
    """The last runs of a history with a row for each pair, and a head."""
    names = {pin.run_id: pin.name for pin in history.pins}
    shown = list(dict.fromkeys(line.run_id for line in history.lines))[-most:]
    rows = [("run", "pair", "n", "model", "gap", "verdict", "flips", "release")]
    for line in history.lines:
        if line.run_id not in shown:
            continue
        accuracy, reference = line.accuracy, line.reference_accuracy
        rows.append(
            (
                one_line(line.run_id),
                one_line(line.pair),
                str(line.n or "–"),
                percent(accuracy) if accuracy is not None else "–",
                points(accuracy - reference) if accuracy is not None and reference is not None else "–",
                line.verdict or line.status.upper(),
                percent(line.flip_rate) if line.flip_rate is not None else "–",
                one_line(names.get(line.run_id, "")),
            )
        )
    return rows


def _repeats(run: RunRecord) -> list[str]:
    said = since_words.repeats(run)
    return ["", *said] if said else []


def looked_at(pairs: Sequence[PairRecord], rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """What was made of single images, for a run that asked for them."""
    lines: list[str] = []
    for pair in pairs:
        for row in rows.get(pair.key.id, ()):
            seen = [
                ("label", pair.labels[row.label]),
                *((f"{name} says", "–" if found is None else pair.labels[found]) for name, found in row.references.items()),
                ("answer", row.answer if row.answer is not None else "–"),
                ("read as", "no class" if row.prediction is None else pair.labels[row.prediction]),
                ("failure kind", row.kind or "none: it is right" if row.correct else row.kind or "–"),
                *((f"by {name}", str(score.get("detail") or score["prediction"])) for name, score in row.scores.items()),
            ]
            lines += ["", f"{pair.key.id}, row {row.row}, image {row.image}"]
            lines += [f"  {name}: {one_line(str(text))}" for name, text in seen]
    return lines


def in_a_trajectory(pair: PairRecord, run: RunRecord) -> bool:
    """Whether the table of a trajectory says all that there is to say of a pair: its accuracy and a plain verdict."""
    plain = pair.gating is not None and not pair.gating.by_accepted_loss and not pair.gating.may_be_chance
    return plain and any(
        found.model == pair.key.model and state.checkpoint == pair.key.checkpoint and pair.key.image_set in found.image_sets
        for found in run.trajectories
        for state in found.states
    )


def along(run: RunRecord) -> list[str]:
    """The trajectories of a run, each with its table, the checkpoint to keep and the field's numbers."""
    lines: list[str] = []
    if run.settings.get("checkpoints") and not run.trajectories:
        lines += ["", "no trajectory is drawn: the base was not measured on all image sets"]
    for found in run.trajectories:
        head = f"trajectory {found.name} of {found.model}: {trajectory_words.domain(found)}"
        lines += ["", head, *drawn(trajectory_words.table(found), {0})]
        lines += [trajectory_words.to_keep(found), trajectory_words.metrics(found)]
    return lines


def drawn(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Rows in columns, flush right but for those in ``left``."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in rows
    ]


def _reasons(run: RunRecord) -> list[str]:
    """Why pairs have no verdict, each reason once with all pairs that it is of."""
    pairs: dict[str, list[str]] = {}
    for pair in run.pairs:
        if pair.gating is None and pair.reason:
            pairs.setdefault(pair.reason, []).append(pair.key.id)
    return [f"{', '.join(names)}: {reason}" for reason, names in pairs.items()]


def notes(run: RunRecord) -> list[str]:
    """What must be said beside the table: reasons, what would settle a pair, accepted losses, towers."""
    said = _reasons(run)
    for pair in run.pairs:
        if in_a_trajectory(pair, run):
            continue
        if pair.gating is None:
            continue
        text = "; ".join(filter(None, (to_settle(pair), accepted_note(pair))))
        if text:
            said.append(f"{pair.key.id}: {text}")
        said += [f"{pair.key.id}: {note}" for note in reader_notes(pair)]
        if pair.gating and pair.gating.verdict == "FAIL" and nothing_to_forget(pair.gating):
            said.append(f"{pair.key.id}: {nothing_to_forget(pair.gating)}")
        if pair.gating and pair.gating.verdict != "PASS" and where_it_falls(pair):
            said.append(f"{pair.key.id}: {where_it_falls(pair)}")
    said += [f"attention: {warning}" for warning in tower_warnings(run)]
    if run.reason and all(pair.gating for pair in run.pairs):
        said.append(f"incomplete: {run.reason}")
    said += filter(None, (stopped_early(run), replayed(run), asked(run)))
    return ["", *said] if said else []
