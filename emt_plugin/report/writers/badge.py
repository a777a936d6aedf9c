"""``badge.json``: the run in a few words, as shields.io's endpoint badge reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emt_plugin.records import RunRecord
from emt_plugin.report.words.verdicts import headline, points
from emt_plugin.store.files import write_atomically

LABEL = "forgetting"
COLOURS = {"PASS": "brightgreen", "FAIL": "red", "FORGOT": "red", "INCONCLUSIVE": "yellow", "INCOMPLETE": "lightgrey"}
# A run that exits with an error although no pair failed: neither green nor a verdict.
OTHERWISE = "lightgrey"


def write_badge(folder: Path) -> Path:
    """Write ``badge.json`` beside the run record in ``folder``.

    Raises:
        RecordError: there is no run record, or this version cannot read it.
        OSError: the folder cannot be written.
    """
    path = folder / "badge.json"
    content = json.dumps(badge(RunRecord.read(folder)), ensure_ascii=False)
    write_atomically(path, (content + "\n").encode())
    return path


def badge(run: RunRecord) -> dict[str, Any]:
    """The badge of a run; an error badge, whose colour no reader can choose, unless the run exits 0."""
    state, _, said = headline(run).partition(": ")
    passed = run.exit_code == 0
    return {
        "schemaVersion": 1,
        "label": LABEL,
        "message": _message(run, state, said.partition(" pairs")[0]),
        "color": OTHERWISE if state == "PASS" and not passed else COLOURS.get(state, OTHERWISE),
        "isError": not passed,
    }


def _message(run: RunRecord, state: str, count: str) -> str:
    gating = [pair.gating for pair in run.pairs if pair.gating]
    lost = [comparison.gap for comparison in gating if comparison.verdict == "FAIL"]
    accepted = sum(comparison.by_accepted_loss for comparison in gating)
    if state in {"FAIL", "FORGOT"}:
        return f"{state} {count} ({points(min(lost))} points{' at worst' if len(lost) > 1 else ''})"
    if state == "INCOMPLETE" and run.shard and any(pair.is_awaited for pair in run.pairs):
        return f"INCOMPLETE {run.shard.words}"
    if state == "INCOMPLETE":
        # It may have a verdict on every pair: then something else went wrong.
        missing = f" {count}" if len(gating) < len(run.pairs) else ""
        return f"INCOMPLETE{missing}{f', {len(lost)} FAIL' if lost else ''}"
    if state == "PASS":
        notes = [f"{accepted} by an accepted loss"] * bool(accepted) + [f"exit code {run.exit_code}"] * bool(run.exit_code)
        return ", ".join([f"PASS {count}", *notes])
    return f"{state} {count}"
