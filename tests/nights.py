"""Two simulated nights: one regression, one improvement, one changed fingerprint, one crashed pair, and one as before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emt_plugin.records import PairKey, PairRecord, RunRecord, write_predictions
from emt_plugin.runs.history import append, read_history
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.since import changes_since, trends_of
from tests.unit.test_history import outcomes, pair_of, rows_of, run_of

GOOD, BAD = outcomes(90, 10), outcomes(60, 40)
# What the first screen must say of the second night, by the name of what it is.
SAID = {
    "Worse": "model/worse: 90.0% to 60.0%, −30.0 [",
    "Better": "model/better: 60.0% to 90.0%, +30.0 [",
    "Changed": "dtype float32 is now bfloat16 (model/other)",
    "Not measured": "model/gone: crashed (its worker crashed) now",
    "As before": "no image changed in model/other, model/still",
}


def two_nights(folder: Path) -> RunRecord:
    """Write the second night's run into a folder, set beside the first by the history file in it."""
    folder.mkdir(parents=True, exist_ok=True)
    history = folder / "history.jsonl"
    names = ("worse", "better", "other", "gone", "still")
    first = run_of("first", "2026-01-01", *(pair_of(name, BAD if name == "better" else GOOD) for name in names))
    rows = {pair.key.id: rows_of(BAD if pair.key.image_set == "better" else GOOD) for pair in first.pairs}
    append(history, lines_of(first, rows))
    crashed = PairRecord(PairKey("model", "gone"), status="crashed", reason="its worker crashed")
    moved = (pair_of("worse", BAD), pair_of("better", GOOD), pair_of("other", GOOD, dtype="bfloat16"))
    second = run_of("second", "2026-01-02", *moved, crashed, pair_of("still", GOOD))
    second = replace(second, complete=False, exit_code=3)
    rows |= {"model/worse": rows_of(BAD), "model/better": rows_of(GOOD)}
    past, lines = read_history(history), lines_of(second, rows)
    second = replace(second, changes=changes_since(past, lines), trends=trends_of(past, lines))
    second.write(folder)
    for pair in second.pairs:
        if pair.status == "measured":
            write_predictions(folder, pair.key.file_name, rows[pair.key.id])
    return second
