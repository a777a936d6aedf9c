"""What a run is set beside: an earlier run, and the history that it is appended to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from emt_plugin.records import Flip, OnePairAtATime, Row, RunChanges, RunRecord, read_predictions
from emt_plugin.runs.compare import compare_runs, flips
from emt_plugin.runs.history import append, read_history
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.since import changes_since, trends_of

Rows = Mapping[str, Sequence[Row]]


def beside_earlier(
    run: RunRecord, rows: Rows, compare: Path | None, history: Path | None
) -> tuple[RunRecord, dict[str, list[Flip]]]:
    """The run with what changed since earlier ones, and the images that flipped against the one that was named, by pair.

    Args:
        run: its record.
        rows: its images by pair id.
        compare: folder of the run that was named; None for none.
        history: the file that it will be appended to; None for none.

    Raises:
        RecordError: the run to compare with cannot be read.
        HistoryError: the history cannot be read.
    """
    changes: tuple[RunChanges, ...] = ()
    if history:
        past, lines = read_history(history), lines_of(run, rows)
        changes = changes_since(past, lines)
        run = replace(run, trends=trends_of(past, lines))
    flipped: dict[str, list[Flip]] = {}
    if compare:
        named, flipped = beside_run(run, rows, compare)
        changes = with_first(named.changes[0], changes)
    return replace(run, changes=changes), flipped


def with_first(named: RunChanges, others: Sequence[RunChanges]) -> tuple[RunChanges, ...]:
    """The run that was named before the others; it may be one of them, and is called as that then."""
    called = next((found.name for found in others if found.run_id == named.run_id), named.name)
    return (replace(named, name=called), *(found for found in others if found.run_id != named.run_id))


def beside_run(
    run: RunRecord, rows: Rows, folder: Path, tolerance: float | None = None
) -> tuple[RunRecord, dict[str, list[Flip]]]:
    """The run with what changed since one earlier run, and the images that flipped in the pairs that could be compared.

    Args:
        run: its record.
        rows: its images by pair id.
        folder: of the earlier run.
        tolerance: the largest loss that passes; None for each pair's policy.

    Raises:
        RecordError: the earlier run cannot be read.
    """
    before = RunRecord.read(folder)
    before_rows = rows_of(folder, before)
    changes = compare_runs(before, before_rows, run, rows, tolerance)
    compared = {change.pair for change in changes.pairs if change.comparison}
    flipped = {
        pair.key.id: flips(before_rows[pair.key.id], rows[pair.key.id], pair.scores[0].scorer)
        for pair in run.pairs
        if pair.key.id in compared
    }
    return replace(run, changes=(changes,)), flipped


def remember(run: RunRecord, rows: Rows, path: Path) -> None:
    """Append a run to the history.

    Raises:
        HistoryError: it cannot be written.
    """
    append(path, lines_of(run, rows))


def rows_of(folder: Path, run: RunRecord) -> Rows:
    """The images of a run by pair id, from its folder: not all of them at once."""
    return OnePairAtATime({pair.key.id: partial(read_predictions, folder, pair.key.file_name) for pair in run.pairs})
