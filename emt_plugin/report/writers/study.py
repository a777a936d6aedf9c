"""The trajectories of a run as Markdown tables, in short and in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emt_plugin.analysis import Change, Trajectory
from emt_plugin.records import RecordError, RunRecord
from emt_plugin.report.words import trajectory as words
from emt_plugin.report.words.verdicts import points
from emt_plugin.report.writers.marks import marks, put_between

COMMAND = "emt study"
SHORT, FULL = "study", "study in full"


def short_table(run: RunRecord) -> str:
    """A row for each trajectory: what every state changed elsewhere, what the last changed in domain, and what to keep."""
    runs = _runs(run)
    most = max(len(found.states) for found in runs)
    # Runs of different length reach a fraction of an epoch after steps of their own.
    names = [
        "/".join(
            dict.fromkeys(words.state_name(found.states[at]).removeprefix("epoch ") for found in runs if at < len(found.states))
        )
        for at in range(1, most)
    ]
    head = ("trained on", "method", *(f"elsewhere, epoch {name}" for name in names), "in domain, last", "keep")
    rows = []
    for found in runs:
        elsewhere = [_points(state.elsewhere) for state in found.states[1:]]
        kept = words.state_name(found.states[found.keep.kept]) if found.keep else "–"
        trained = (", ".join(found.trained_on) or "–", found.method or "–")
        rows.append((*trained, *elsewhere, *["–"] * (most - len(found.states)), _points(found.states[-1].domain), kept))
    return _markdown([head, *rows])


def full_tables(run: RunRecord) -> str:
    """All states of all trajectories on all image sets, with what is to be said of each."""
    parts = []
    for found in _runs(run):
        foreign = [(words.state_name(state), *(words.foreign(cell) or "–" for cell in state.cells)) for state in found.states]
        decided = words.decided_table(found)
        parts += [
            f"### {found.name}",
            f"{words.domain(found)} {words.to_keep(found)}",
            _markdown(words.table(found)),
            *(["On the half that decides, changes since the base with their verdicts:", _markdown(decided)] if decided else []),
            words.metrics(found),
            "Answers that name a label of another image set:",
            _markdown([("state", *found.image_sets), *foreign]),
        ]
    return "\n\n".join(parts)


def write(folder: Path, document: Path) -> None:
    """Put the tables of the run in ``folder`` into a document: in short, in full or both, as it has marks for.

    Those of ``emt mend`` go between marks of their own for each checkpoint.

    Raises:
        RecordError: the folder holds no run with trajectories.
        MarksError: the document has no marks.
    """
    run = RunRecord.read(folder)
    if _runs(run)[0].mending:
        put_between(document, f"mending {_runs(run)[0].name}", COMMAND, full_tables(run))
        return
    tables = {SHORT: short_table(run), FULL: full_tables(run)}
    text = document.read_text(encoding="utf-8")
    for name in [name for name in tables if marks(name, COMMAND)[0] in text] or [SHORT]:
        put_between(document, name, COMMAND, tables[name])


def _runs(run: RunRecord) -> tuple[Trajectory, ...]:
    if not run.trajectories:
        raise RecordError(f"run {run.run_id} has no trajectory: make one with pytest benchmarks --checkpoint GLOB")
    return run.trajectories


def _points(change: Change | None) -> str:
    return points(change.value) if change else "–"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
