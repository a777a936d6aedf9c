"""A run in a notebook's cell: the verdict and the table of pairs, with no script and nothing from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

from emt_plugin.records import RunRecord
from emt_plugin.report.words.tables import HEAD, cells
from emt_plugin.report.words.trajectory import to_keep
from emt_plugin.report.words.verdicts import headline, terms
from emt_plugin.report.words.visible import cut, visible

# The colours of the page, as readable on dark as on light paper.
COLOURS = {"PASS": "#2e8b57", "FAIL": "#d0453b", "FORGOT": "#d0453b"}
OTHER = "#b07a10"
WORDS = {0, len(HEAD) - 1}
MOST_IN_A_CELL = 160
MOST_PAIRS = 60


def cell(run: RunRecord, folder: Path) -> str:
    """The HTML of a run.

    Args:
        run: its record.
        folder: where its report is.
    """
    said = headline(run)
    colour = COLOURS.get(said.partition(":")[0], OTHER)
    notes = [note for note in (terms(run), run.reason or "", *map(to_keep, run.trajectories)) if note]
    if len(run.pairs) > MOST_PAIRS:
        notes.append(f"The first {MOST_PAIRS} of {len(run.pairs)} pairs; all of them are in .pairs and in the report.")
    rows = [HEAD, *(cells(pair) for pair in run.pairs[:MOST_PAIRS])]
    table = "".join(_row(row, "td" if place else "th") for place, row in enumerate(rows))
    said_too = "".join(f'<p style="margin: .2em 0">{_text(note)}</p>' for note in notes)
    when = run.started.replace("T", " ")[:16]
    return (
        f'<div style="border-left: 6px solid {colour}; padding: .2em .9em">'
        f'<p style="font-size: 1.2em; margin: .2em 0"><b>{_text(said)}</b></p>'
        f"{said_too}"
        f'<table style="margin: .5em 0">{table}</table>'
        f'<p style="margin: .2em 0; opacity: .75">run {_text(run.run_id)}, {_text(when)} UTC, '
        f"exit code {run.exit_code}; {_text(str(folder / 'report.html'))}</p></div>"
    )


def _row(row: tuple[str, ...], tag: str) -> str:
    sides = ["left" if place in WORDS else "right" for place in range(len(row))]
    colour = f"; color: {COLOURS.get(row[-1].split()[0], OTHER)}" if tag == "td" else ""
    styles = [f"text-align: {side}{colour if place == len(row) - 1 else ''}" for place, side in enumerate(sides)]
    found = (
        f'<{tag} style="{style}">{_text(cut(text, MOST_IN_A_CELL))}</{tag}>' for style, text in zip(styles, row, strict=True)
    )
    return f"<tr>{''.join(found)}</tr>"


def _text(text: str) -> str:
    return escape(str(visible(text)))
