"""A run against the history: last night, the pinned release, and the trend of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from emt_plugin.records import PairChange, RunChanges, Trend, TrendPoint
from emt_plugin.runs.compare import adjusted, alike, compare_measured
from emt_plugin.runs.fingerprint import differences
from emt_plugin.runs.history import History
from emt_plugin.runs.lines import Line

MOST_POINTS = 60
# A run that started so long before this one is last night's.
LAST_NIGHT = (timedelta(hours=6), timedelta(hours=36))


def changes_since(history: History, now: Sequence[Line]) -> tuple[RunChanges, ...]:
    """A run against the run before it and against the release that was pinned last, where the history has them.

    Args:
        history: without this run.
        now: the lines of this run.
    """
    if not now:
        return ()
    pairs = {line.pair for line in now}
    earlier = [line for line in history.lines if line.run_id != now[0].run_id and line.started <= now[0].started]
    # A file may hold the nights of several models, and nights that measured nothing: the run before shares a pair.
    shared = {line.run_id for line in earlier if line.pair in pairs and line.status == "measured"}
    runs = list(dict.fromkeys(line.run_id for line in earlier if line.run_id in shared))
    found = []
    if runs:
        found.append(_against(runs[-1], None, earlier, now))
    pinned = next((pin for pin in reversed(history.pins) if pin.run_id in runs), None)
    if pinned:
        found.append(_against(pinned.run_id, f"release {pinned.name}", earlier, now))
    return tuple(found)


def _against(run_id: str, name: str | None, earlier: Sequence[Line], now: Sequence[Line]) -> RunChanges:
    then = {line.pair: line for line in earlier if line.run_id == run_id}
    here = {line.pair: line for line in now}
    started = next(line.started for line in earlier if line.run_id == run_id)
    changes = []
    for pair in dict.fromkeys([*here, *then]):
        before, after = then.get(pair), here.get(pair)
        why = "" if before is None else "measured" if before.status == "measured" else "not measured"
        if name is None and after is not None and not (before and alike(before.measured, after.measured)):
            # Last night cannot be compared with: the night before that, as far back as it takes.
            past = (line for line in reversed(earlier) if line.pair == pair and alike(line.measured, after.measured))
            before = next(past, before)
        changes.append(_change(pair, before, after, run_id, why))
    return RunChanges(name or _when(started, now[0].started), run_id, started, adjusted(changes))


def _change(pair: str, before: Line | None, after: Line | None, run_id: str, why: str) -> PairChange:
    if after is None:
        return PairChange(pair, None, "not part of this run")
    if before is None:
        return PairChange(pair, None, f"not in run {run_id}")
    change = compare_measured(pair, before.measured, after.measured)
    if change.comparison and before.run_id != run_id:
        there = {"": "not in", "measured": "on other images or by another scorer in", "not measured": "not measured in"}[why]
        reason = f"{there} run {run_id}; compared with run {before.run_id}"
        return replace(change, reason=f"{reason}, {change.reason}" if change.reason else reason)
    return change


def _when(then: str, now: str) -> str:
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(then)
    return "last night" if LAST_NIGHT[0] <= passed <= LAST_NIGHT[1] else "the run before"


def trends_of(history: History, now: Sequence[Line]) -> tuple[Trend, ...]:
    """Each pair of a run over the runs of the history, the oldest first and this run last."""
    releases = {pin.run_id: pin.name for pin in history.pins}
    found = []
    for line in now:
        # The joined run of shards begins when its first shard did.
        past = [
            past
            for past in history.lines
            if past.pair == line.pair and past.run_id != line.run_id and past.started <= line.started
        ]
        series = [*past, line]
        points = [_point(one, series[at - 1] if at else None, releases.get(one.run_id)) for at, one in enumerate(series)]
        found.append(Trend(line.pair, tuple(points[-MOST_POINTS:])))
    return tuple(found)


def _point(line: Line, before: Line | None, release: str | None) -> TrendPoint:
    accuracy, reference = line.accuracy, line.reference_accuracy
    # A pair that was not measured knows little of itself.
    known = before is not None and before.status == line.status == "measured"
    changed = [found.name for found in differences(before.fingerprint, line.fingerprint)] if before and known else []
    if before and (before.split or line.split) and "images" in changed and alike(before.measured, line.measured):
        # More images are no other images.
        changed.remove("images")
    if before and known and before.reference != line.reference:
        changed.append("reference")
    return TrendPoint(
        run_id=line.run_id,
        started=line.started,
        status=line.status,
        verdict=line.verdict,
        n=line.n,
        accuracy=accuracy,
        reference=reference,
        gap=None if accuracy is None or reference is None else accuracy - reference,
        low=line.low,
        high=line.high,
        tolerance=line.tolerance,
        changed=tuple(changed),
        release=release,
        sequential=line.split is not None,
    )
