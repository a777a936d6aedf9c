"""``summary.md``: the same verdict table in Markdown."""

from __future__ import annotations

from pathlib import Path

from emt_plugin.forgetting import Trajectory
from emt_plugin.records import RunRecord
from emt_plugin.records.files import write_atomically
from emt_plugin.report import trajectory_words
from emt_plugin.report.terminal import HEAD, notes, row
from emt_plugin.report.words import headline, terms


def write_summary(folder: Path) -> Path:
    """Write ``summary.md`` beside the run record in ``folder``."""
    run = RunRecord.read(folder)
    lines = [
        f"## {_cell(headline(run))}",
        "",
        f"Run `{run.run_id}`, exit code {run.exit_code}. Accuracies on the same images; gap and interval in points.",
        *([_cell(terms(run))] if terms(run) else []),
        "",
        *(line for found in run.trajectories for line in _trajectory(found)),
        *(["### All pairs", ""] if run.trajectories else []),
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(f"| {' | '.join(map(_cell, row(pair)))} |" for pair in run.pairs),
        *(f"- {_cell(note)}" if note else "" for note in notes(run)),
    ]
    path = folder / "summary.md"
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path


def _trajectory(run: Trajectory) -> list[str]:
    head, *rows = trajectory_words.table(run)
    return [
        "",
        f"### {_cell(run.name)}",
        "",
        f"{_cell(trajectory_words.domain(run))} {_cell(trajectory_words.to_keep(run))}",
        "",
        f"| {' | '.join(map(_cell, head))} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
        "",
        _cell(trajectory_words.metrics(run)),
        "",
    ]


MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_<>|"} | {"\n": " ", "\r": " "})


def _cell(text: str) -> str:
    """Text from strangers, kept from being read as markup."""
    return text.translate(MARKUP).replace("](", "]\\(")
