"""Geometry of the charts: plain numbers for the template to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.forgetting.steps import MEANING, SUPERVISED, Step
from emt_plugin.records import PairRecord
from emt_plugin.report.words import percent, points

WIDTH = 960
LEFT = 250
RIGHT = 120
ROW = 38
TOP = 30
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 10
CELL = 30
LARGE_CELL_CLASSES = 24
STEP_WIDTH, STEP_LEFT, STEP_RIGHT, STEP_TOP = 960, 150, 250, 26


@dataclass(frozen=True)
class Tick:
    """A value on the axis and where it lies."""

    x: float
    text: str


@dataclass(frozen=True)
class GapRow:
    """One pair of the gap chart, in pixels."""

    pair: str
    verdict: str
    y: float
    low: float
    high: float
    gap: float
    tolerance: float
    label: str


@dataclass(frozen=True)
class GapChart:
    """The gap of every pair with its interval and its tolerance."""

    width: int
    height: int
    zero: float
    middle: float
    ticks: tuple[Tick, ...]
    rows: tuple[GapRow, ...]
    bottom: float


def gap_chart(pairs: Sequence[PairRecord], labels: Sequence[str]) -> GapChart | None:
    """The chart of all pairs that have a verdict; None without any.

    Args:
        pairs: of one run.
        labels: the gap of each pair in words, in the same order.
    """
    shown = [(pair, pair.gating, label) for pair, label in zip(pairs, labels, strict=True) if pair.gating]
    if not shown:
        return None
    gating = [comparison for _, comparison, _ in shown if comparison]
    left = min(0.0, *(min(c.low, -c.tolerance.value) for c in gating))
    right = max(0.0, *(c.high for c in gating))
    margin = max(right - left, 0.02) * 0.06
    left, right = left - margin, right + margin
    scale = (WIDTH - LEFT - RIGHT) / (right - left)

    def x(value: float) -> float:
        return round(LEFT + (value - left) * scale, 1)

    step = next((step for step in STEPS if (right - left) / step <= MOST_TICKS), STEPS[-1])
    ticks = [index * step for index in range(-int(1 / step), int(1 / step) + 1) if left <= index * step <= right]
    rows = tuple(
        GapRow(
            pair=pair.key.id,
            verdict=comparison.verdict,
            y=TOP + ROW * position + ROW / 2,
            low=x(comparison.low),
            high=x(comparison.high),
            gap=x(comparison.gap),
            tolerance=x(-comparison.tolerance.value),
            label=label,
        )
        for position, (pair, comparison, label) in enumerate(shown)
        if comparison
    )
    bottom = TOP + ROW * len(rows)
    tick_marks = tuple(Tick(x(value), f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0")) for value in ticks)
    return GapChart(WIDTH, bottom + 44, x(0), (LEFT + WIDTH - RIGHT) / 2, tick_marks, rows, bottom)


@dataclass(frozen=True)
class StepBar:
    """One step of the way from encoder to answer, in pixels."""

    name: str
    meaning: str
    y: float
    width: float
    accuracy: str
    change: str
    interval: str
    lost: bool
    supervised: bool


@dataclass(frozen=True)
class StepChart:
    """Accuracy at each step, and the change from the step before."""

    width: int
    height: int
    left: int
    full: int
    bars: tuple[StepBar, ...]


def step_chart(steps: Sequence[Step], n: int) -> StepChart:
    """The chart of a pair's steps over ``n`` images."""
    full = STEP_WIDTH - STEP_LEFT - STEP_RIGHT
    bars = tuple(
        StepBar(
            name=step.name,
            meaning=MEANING[step.name],
            y=STEP_TOP + ROW * position,
            width=round(full * step.correct / n, 1),
            accuracy=percent(step.correct, n),
            change=points(step.change) if position else "",
            interval=f"[{points(step.low)}, {points(step.high)}]" if position else "",
            lost=bool(position) and step.high < 0,
            supervised=step.name in SUPERVISED,
        )
        for position, step in enumerate(steps)
    )
    return StepChart(STEP_WIDTH, STEP_TOP + ROW * len(steps) + 6, STEP_LEFT, full, bars)


@dataclass(frozen=True)
class Cell:
    """One cell of a confusion matrix; ``share`` is of its row."""

    x: float
    y: float
    count: int
    share: float
    hit: bool
    title: str


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: a row for each label, a column for each prediction and one for none."""

    width: float
    height: float
    cell: float
    left: float
    top: float
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    cells: tuple[Cell, ...]
    numbers: bool


def matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Matrix:
    """The confusion matrix of counts[label][prediction], the last column counting answers that name no class."""
    names = [*labels, "no class"]
    small = len(labels) > LARGE_CELL_CLASSES
    cell = 8.0 if small else float(CELL)
    left = top = 20.0 + 6.6 * max(min(len(name), 22) for name in names)
    cells = []
    for row, line in enumerate(counts):
        total = sum(line)
        for column, count in enumerate(line):
            if count:
                cells.append(
                    Cell(
                        x=left + column * cell,
                        y=top + row * cell,
                        count=count,
                        share=round(count / total, 3),
                        hit=row == column,
                        title=f"{labels[row]} read as {names[column]}: {count} of {total}",
                    )
                )
    return Matrix(
        width=left + cell * len(names) + 10,
        height=top + cell * len(labels) + 10,
        cell=cell,
        left=left,
        top=top,
        rows=tuple((top + cell * (row + 0.5), _short(name)) for row, name in enumerate(labels)) if not small else (),
        columns=tuple((left + cell * (column + 0.5), _short(name)) for column, name in enumerate(names)) if not small else (),
        cells=tuple(cells),
        numbers=not small,
    )


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
