"""``summary.md``: the same in Markdown, small enough for the page of a CI run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from emt_plugin.analysis import Trajectory
from emt_plugin.records import RunRecord
from emt_plugin.report.words import since as since_words
from emt_plugin.report.words import trajectory as trajectory_words
from emt_plugin.report.words.tables import HEAD, cells
from emt_plugin.report.words.verdicts import headline, terms
from emt_plugin.report.words.visible import visible
from emt_plugin.report.writers.terminal import notes
from emt_plugin.store.files import write_atomically

# GitHub throws a summary away, whole, above 1,024 KiB for a step.
LIMIT = 1_000_000
CUT = "\n\n*Cut here: a summary may take no more than {limit:,} bytes. The rest is in report.html.*\n"


def write_summary(folder: Path, run: RunRecord | None = None) -> Path:
    """Write ``summary.md`` beside the run record in ``folder``, less than a megabyte.

    Args:
        folder: of one run.
        run: what is shown; None for the record.

    Raises:
        RecordError: there is no run record, or this version cannot read it.
        OSError: the folder cannot be written.
    """
    run = run or RunRecord.read(folder)
    lines = [
        f"## {_cell(headline(run))}",
        "",
        f"Run {_cell(run.run_id)}, exit code {run.exit_code}. Accuracies on the same images; gap and interval in points.",
        *([_cell(terms(run))] if terms(run) else []),
        *_changes(run),
        "",
        *(line for found in run.trajectories for line in _trajectory(found)),
        *(["### All pairs", ""] if run.trajectories else []),
        *_table([HEAD, *(cells(pair) for pair in run.pairs)]),
        *(f"- {_cell(note)}" if note else "" for note in notes(run)),
        *_repeats(run),
    ]
    path = folder / "summary.md"
    write_atomically(path, fitting("\n".join(lines) + "\n", LIMIT))
    return path


def append_to_step_summary(path: Path) -> list[str]:
    """Append a summary to the page of a GitHub Actions step, where this is one; as much of it as the page takes.

    Returns:
        What a reader of the terminal should know: the page is no part of the record, and no verdict hangs on it.
    """
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        return []
    page = Path(target)
    try:
        taken = page.stat().st_size if page.exists() else 0
        with page.open("ab") as file:
            file.write(fitting(f"{path.read_text(encoding='utf-8')}\n", max(LIMIT - taken, 0)))
    except OSError as error:
        return ["", f"emt: the summary could not be added to $GITHUB_STEP_SUMMARY ({error.strerror}); it is in {path.name}"]
    return []


def fitting(text: str, limit: int) -> bytes:
    """A text in at most ``limit`` bytes, cut between lines and saying so; nothing where not even that has room."""
    content = text.encode("utf-8", "replace")
    if len(content) <= limit:
        return content
    note = CUT.format(limit=limit).encode()
    room = limit - len(note)
    return content[:room].rpartition(b"\n")[0] + note if room > 0 else b""


def _changes(run: RunRecord) -> list[str]:
    lines: list[str] = []
    for changes in run.changes:
        lines += ["", f"### {_cell(since_words.head(changes))}", ""]
        lines += [f"- **{line.name}**: {_cell(line.text)}" for line in since_words.since(changes, run)]
    return [*lines, *(["", "### Pairs"] if lines and not run.trajectories else [])]


def _repeats(run: RunRecord) -> list[str]:
    said = since_words.repeats(run)
    return ["", "### Measured again", "", *(f"- {_cell(line)}" for line in said)] if said else []


def _trajectory(run: Trajectory) -> list[str]:
    return [
        "",
        f"### {_cell(run.name)}",
        "",
        f"{_cell(trajectory_words.domain(run))} {_cell(trajectory_words.to_keep(run))}",
        "",
        *_table(trajectory_words.table(run)),
        "",
        _cell(trajectory_words.metrics(run)),
        "",
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return [
        f"| {' | '.join(map(_cell, head))} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(_cell, cells))} |" for cells in rest),
    ]


MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_<>|"} | {"\n": " ", "\r": " "})


def _cell(text: str) -> str:
    """Text from strangers, kept from being read as markup."""
    return str(visible(text)).translate(MARKUP).replace("](", "]\\(")
