"""Geometry of the trend: the gap of one pair over the runs of a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.records import Trend, TrendPoint
from emt_plugin.report.words.verdicts import percent, points

WIDTH, HEIGHT = 340, 170
LEFT, RIGHT, TOP, BOTTOM = 36, 10, 24, 34
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 5
MOST_NAME = 14


@dataclass(frozen=True)
class TrendMark:
    """One run, in pixels; without a number where nothing was measured."""

    x: float
    y: float | None
    low: float
    high: float
    verdict: str
    title: str
    changed: bool
    release: str


@dataclass(frozen=True)
class TrendChart:
    """The gap of one pair, runs from left to right."""

    pair: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    zero: float
    ticks: tuple[tuple[float, str], ...]
    line: str
    tolerance: str
    marks: tuple[TrendMark, ...]
    first: str
    last: str
    rows: tuple[tuple[str, ...], ...]


def trend_charts(trends: Sequence[Trend]) -> tuple[TrendChart, ...]:
    """A chart for each pair that has an earlier run; all have the same axis, so that they can be compared."""
    shown = [trend for trend in trends if len(trend.points) > 1 and any(point.gap is not None for point in trend.points)]
    if not shown:
        return ()
    known = [point for trend in shown for point in trend.points if point.gap is not None]
    lows = [min(_low(point), -(point.tolerance or 0.0)) for point in known]
    lowest, highest = min(0.0, *lows), max(0.0, *(_high(point) for point in known))
    margin = max(highest - lowest, 0.02) * 0.08
    return tuple(_chart(trend, lowest - margin, highest + margin) for trend in shown)


def _short(name: str) -> str:
    """A release's name where there is room for a few letters."""
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"


def _low(point: TrendPoint) -> float:
    return point.low if point.low is not None else point.gap or 0.0


def _high(point: TrendPoint) -> float:
    return point.high if point.high is not None else point.gap or 0.0


def _chart(trend: Trend, lowest: float, highest: float) -> TrendChart:
    def x(at: int) -> float:
        return round(LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * at / (len(trend.points) - 1), 1)

    def y(gap: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (highest - gap) / (highest - lowest), 1)

    marks = tuple(
        TrendMark(
            x=x(at),
            y=None if point.gap is None else y(point.gap),
            low=y(_low(point)),
            high=y(_high(point)),
            verdict=point.verdict or "",
            title=_title(point),
            changed=bool(point.changed),
            release=_short(point.release or ""),
        )
        for at, point in enumerate(trend.points)
    )
    step = next((step for step in STEPS if (highest - lowest) / step <= MOST_TICKS), STEPS[-1])
    ticks = [index * step for index in range(-int(1 / step), int(1 / step) + 1) if lowest <= index * step <= highest]
    tolerances = [(x(at), y(-point.tolerance)) for at, point in enumerate(trend.points) if point.tolerance is not None]
    return TrendChart(
        pair=trend.pair,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        zero=y(0.0),
        ticks=tuple((y(value), f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0")) for value in ticks),
        line=" ".join(f"{mark.x},{mark.y}" for mark in marks if mark.y is not None),
        tolerance=" ".join(f"{left},{top}" for left, top in tolerances),
        marks=marks,
        first=trend.points[0].started[:10],
        last=trend.points[-1].started[:10],
        rows=(HEAD, *(_row(point) for point in reversed(trend.points))),
    )


HEAD = ("run", "started", "n", "model", "reference", "gap", "90% interval", "verdict", "changed", "release")


def _row(point: TrendPoint) -> tuple[str, ...]:
    measured = point.accuracy is not None
    return (
        point.run_id,
        point.started.replace("T", " ")[:16],
        str(point.n or "–"),
        percent(point.accuracy) if point.accuracy is not None else "–",
        percent(point.reference) if point.reference is not None else "–",
        points(point.gap) if point.gap is not None else "–",
        _interval(point),
        point.verdict or ("NO VERDICT" if measured else point.status.replace("-", " ").upper()),
        ", ".join(point.changed) or "–",
        point.release or "–",
    )


def _interval(point: TrendPoint) -> str:
    if point.low is None or point.high is None:
        return "–"
    return f"[{points(point.low)}, {points(point.high)}]{' sequential' if point.sequential else ''}"


def _title(point: TrendPoint) -> str:
    cells = _row(point)
    changed = f"; changed: {', '.join(point.changed)}" if point.changed else ""
    release = f"; release {point.release}" if point.release else ""
    return f"{cells[1]}, run {cells[0]}: {cells[5]} {cells[6]}, {cells[7]}{changed}{release}"
