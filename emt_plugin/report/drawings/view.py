"""What the report shows of a run, ready to be put into the template: strings and geometry, no decisions left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emt_plugin.analysis import Trajectory
from emt_plugin.gate import Comparison
from emt_plugin.records import Flip, PairChange, Row, RunChanges, RunRecord
from emt_plugin.report.drawings.chart import Forest, forest
from emt_plugin.report.drawings.curves import Curves, HeatMap, curves, heat_map
from emt_plugin.report.drawings.exchange import Exchange, exchange
from emt_plugin.report.drawings.failures import Failure, failures
from emt_plugin.report.drawings.pair_view import PairView, anchor, pair_view
from emt_plugin.report.drawings.stages import StageChart, stage_chart
from emt_plugin.report.drawings.trend import TrendChart, trend_charts
from emt_plugin.report.words import since as since_words
from emt_plugin.report.words import trajectory as trajectory_words
from emt_plugin.report.words import verdicts as words
from emt_plugin.report.words.decision import Decision, decision, kept
from emt_plugin.report.words.published import PublishedView, published_beside
from emt_plugin.report.words.since import Said
from emt_plugin.report.words.tables import step_rows
from emt_plugin.report.words.visible import cut

# Bytes of a page that may be of pairs one by one, beside their images: hundreds of pairs would make it one that does not open.
SIZE_LIMIT = 1_700_000
TREND_SIZE = 9_500
# Of what changed, on the first screen.
MOST_SAID = 9
MOST_LINE = 500


@dataclass(frozen=True)
class TrajectoryView:
    """One fine-tuning run."""

    name: str
    anchor: str
    domain: str
    kept: str
    keep: str
    metrics: str
    curves: Curves
    table: tuple[tuple[str, ...], ...]
    foreign: tuple[tuple[str, ...], ...]
    gone: tuple[tuple[str, str], ...]
    exchange: Exchange | None


@dataclass(frozen=True)
class ChangesView:
    """The run against an earlier one."""

    head: str
    anchor: str
    said: tuple[Said, ...]
    all_said: tuple[Said, ...]
    more: int
    rows: tuple[tuple[str, ...], ...]
    forest: Forest | None
    differences: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True)
class Number:
    """The one number: the largest loss of the run."""

    value: str
    what: str
    interval: str
    tolerance: str
    pair: str
    anchor: str


@dataclass(frozen=True)
class ReportView:
    """The whole page."""

    run: RunRecord
    mark: str
    verdict: str
    detail: str
    number: Number | None
    terms: str
    against: str
    decision: Decision
    failures: tuple[Failure, ...]
    attention: tuple[str, ...]
    stopped_early: str
    replayed: str
    repeats: tuple[tuple[str, ...], ...]
    changes: tuple[ChangesView, ...]
    forest: Forest | None
    trends: tuple[TrendChart, ...]
    trajectories: tuple[TrajectoryView, ...]
    heat: HeatMap | None
    published: tuple[PublishedView, ...]
    pairs: tuple[PairView, ...]
    in_brief: int
    steps: tuple[tuple[str, ...], ...]
    stages: tuple[StageChart, ...]
    command: str
    provenance: tuple[tuple[str, str], ...]


def report_view(run: RunRecord, rows: Mapping[str, Sequence[Row]], flips: Mapping[str, Sequence[Flip]]) -> ReportView:
    """Everything that the report of ``run`` shows.

    Args:
        run: the record.
        rows: the predictions by pair id.
        flips: the images that flipped against the run that was compared, by pair id.
    """
    verdict, _, detail = words.headline(run).partition(": ")
    said = decision(run)
    whole = [pair_view(run, pair, rows.get(pair.key.id, ()), flips.get(pair.key.id, ())) for pair in run.pairs]
    pairs = _fitting(run, whole)
    brief = {pair.id for pair, full in zip(pairs, whole, strict=True) if pair is not full}
    loud = [line.removeprefix("attention: ") for line in since_words.repeats(run) if line.startswith("attention: ")]
    return ReportView(
        run=run,
        mark={"PASS": "✓", "FAIL": "✗", "FORGOT": "✗", "INCONCLUSIVE": "?"}.get(verdict, "!"),
        verdict=verdict,
        detail=detail,
        number=_number(run),
        terms=words.terms(run),
        against=words.against(run),
        decision=said,
        failures=failures(run.pairs, whole),
        attention=tuple(
            cut(text, MOST_LINE) for text in (*words.tower_warnings(run), *([run.reason] if run.reason else []), *loud)
        ),
        stopped_early=words.stopped_early(run),
        replayed=words.replayed(run),
        repeats=tuple(since_words.repeat_rows(run)),
        changes=tuple(_changes(changes, run) for changes in run.changes),
        forest=forest([pair.gating for pair in run.pairs]),
        trends=trend_charts([trend for trend in run.trends if trend.pair not in brief]),
        in_brief=len(brief),
        trajectories=tuple(_trajectory(found) for found in run.trajectories),
        heat=heat_map(run.trajectories) if run.trajectories else None,
        published=published_beside(run),
        pairs=pairs,
        steps=tuple(step_rows(run)),
        stages=tuple(chart for narrow in (False, True) if (chart := stage_chart(run.pairs, narrow))),
        command=str(run.environment.get("command", "")),
        provenance=tuple(_flat(_started(run)) + _flat(run.environment) + _flat(run.settings)),
    )


def _fitting(run: RunRecord, views: Sequence[PairView]) -> tuple[PairView, ...]:
    """The pairs, in full as far as a page has room: those that failed first, the largest losses first."""

    def order(index: int) -> tuple[bool, float]:
        gating = run.pairs[index].gating
        return gating is None or gating.verdict != "FAIL", gating.gap if gating else 0.0

    left = SIZE_LIMIT
    shown = list(views)
    trends = {trend.pair for trend in run.trends}
    for index in sorted(range(len(views)), key=order):
        left -= views[index].size + TREND_SIZE * (views[index].id in trends)
        if left < 0:
            shown[index] = views[index].in_brief()
    return tuple(shown)


def _started(run: RunRecord) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "started": run.started,
        "seconds": run.seconds,
        "exit code": run.exit_code,
        "merged from": list(run.merged_from),
        "shard": f"{run.shard.words} by {run.shard.by}" if run.shard else None,
    }


def _number(run: RunRecord) -> Number | None:
    """The largest loss among the verdicts; of those that failed, where some did."""
    known = [(pair, pair.gating) for pair in run.pairs if pair.gating]
    failed = [(pair, comparison) for pair, comparison in known if comparison.verdict == "FAIL"]
    if not known:
        return None
    pair, comparison = min(failed or known, key=lambda found: found[1].gap)
    kind = "largest loss" if comparison.gap < 0 else "smallest gain" if comparison.gap > 0 else "largest loss"
    return Number(
        value=words.points(comparison.gap),
        what=kind,
        interval=words.interval(comparison),
        tolerance=f"{100 * comparison.tolerance.value:.3g}",
        pair=pair.key.id,
        anchor=anchor(pair.key.file_name),
    )


def _changes(changes: RunChanges, run: RunRecord) -> ChangesView:
    said = since_words.since(changes, run)
    compared = [change for change in changes.pairs if change.comparison]
    return ChangesView(
        head=since_words.head(changes),
        anchor=anchor(f"since-{changes.run_id}"),
        said=tuple(_brief(line) for line in said[:MOST_SAID]),
        all_said=tuple(said),
        more=max(len(said) - MOST_SAID, 0),
        rows=tuple(_change_row(change, change.comparison) for change in compared if change.comparison),
        forest=forest([change.comparison for change in compared]),
        differences=tuple(
            (change.pair, found.name, found.before or "–", found.after or "–")
            for change in changes.pairs
            for found in change.differences
        ),
    )


def _brief(line: Said) -> Said:
    return replace(line, text=cut(line.text, MOST_LINE))


def _change_row(change: PairChange, comparison: Comparison) -> tuple[str, ...]:
    now, before = words.accuracies(comparison)
    chance = " (may be chance)" if comparison.may_be_chance or change.may_be_chance else ""
    return (
        change.pair,
        f"{comparison.verdict}{chance}",
        words.percent(before),
        words.percent(now),
        words.points(comparison.gap),
        words.interval(comparison),
        str(comparison.n01),
        str(comparison.n10),
        change.reason or "–",
    )


def _trajectory(run: Trajectory) -> TrajectoryView:
    foreign = [
        (trajectory_words.state_name(state), *(trajectory_words.foreign(cell) or "–" for cell in state.cells))
        for state in run.states
    ]
    gone = [(trajectory_words.state_name(state), line) for state in run.states for line in trajectory_words.gone(state)]
    return TrajectoryView(
        name=run.name,
        anchor=anchor(f"trajectory-{run.name}"),
        domain=trajectory_words.domain(run),
        kept=kept(run),
        keep=trajectory_words.to_keep(run),
        metrics=trajectory_words.metrics(run),
        curves=curves(run),
        table=tuple(trajectory_words.table(run)),
        foreign=(("state", *run.image_sets), *foreign),
        gone=tuple(gone),
        exchange=exchange(run),
    )


def _flat(content: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, value) pairs; what is not set is left out."""
    flat: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            flat += _flat(value, f"{name}: ")
        elif value not in (None, [], {}):
            flat.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return flat
