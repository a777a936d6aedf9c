"""The runs in a folder, a line for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from emt_plugin.errors import one_line
from emt_plugin.records import RecordError, RunRecord
from emt_plugin.runs.naming import Known

HEAD = ("run", "started (UTC)", "models", "image sets", "verdicts", "exit code", "complete")
MOST_NAMED = 4
# Why, says every command that is asked for the run.
UNREADABLE = "cannot be read"


def run_rows(runs: Sequence[Known]) -> list[tuple[str, ...]]:
    """A row for each run, with a head; of one whose record cannot be read, that it cannot.

    Args:
        runs: in order.
    """
    return [HEAD, *(_row(run) for run in runs)]


def _row(known: Known) -> tuple[str, ...]:
    try:
        run = RunRecord.read(known.folder)
    except RecordError:
        return (one_line(known.id), "–", "–", "–", UNREADABLE, "–", "–")
    verdicts = Counter(pair.gating.verdict if pair.gating else "no verdict" for pair in run.pairs)
    return (
        one_line(known.id),
        one_line(run.started.replace("T", " ")[:16]),
        _some([f"{pair.key.model}{'@' + pair.key.checkpoint if pair.key.checkpoint else ''}" for pair in run.pairs]),
        _some([pair.key.image_set for pair in run.pairs]),
        ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "–",
        str(run.exit_code),
        "yes" if run.complete else "no",
    )


def _some(names: Sequence[str]) -> str:
    once = [one_line(name) for name in dict.fromkeys(names)]
    more = f" and {len(once) - MOST_NAMED} more" if len(once) > MOST_NAMED else ""
    return ", ".join(once[:MOST_NAMED]) + more or "–"
