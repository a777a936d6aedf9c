"""Geometry of the charts: plain numbers for the template to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.analysis.steps import MEANING, SUPERVISED, Step
from emt_plugin.gate import Comparison
from emt_plugin.report.words.verdicts import interval, percent, points

FOREST_WIDTH, FOREST_HEIGHT, FOREST_MARGIN = 240, 28, 12
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 5
CELL = 30
LARGE_CELL_CLASSES = 24
# With more classes a matrix is a grey square of some megabytes.
MOST_MATRIX_CLASSES = 120


@dataclass(frozen=True)
class Tick:
    """A value on the axis and where it lies."""

    x: float
    text: str


@dataclass(frozen=True)
class ForestRow:
    """One difference with its interval and, where it was judged, its tolerance, in pixels."""

    verdict: str
    low: float
    high: float
    gap: float
    tolerance: float | None
    title: str


@dataclass(frozen=True)
class Forest:
    """The axis that all rows of a table share, and a row for each difference; None for a row without any."""

    width: int
    height: int
    zero: float
    ticks: tuple[Tick, ...]
    rows: tuple[ForestRow | None, ...]


def forest(comparisons: Sequence[Comparison | None]) -> Forest | None:
    """Gaps on one axis, in points; None where there is no comparison at all."""
    return _forest(
        [
            (
                (c.low, c.gap, c.high),
                c.tolerance.value,
                c.verdict,
                f"{points(c.gap)}, 90% interval {interval(c)}, tolerance {100 * c.tolerance.value:.3g}: {c.verdict}",
            )
            if c
            else None
            for c in comparisons
        ]
    )


def step_forest(steps: Sequence[Step]) -> Forest | None:
    """What each step changes, on one axis; the first changes nothing."""
    return _forest(
        [
            ((step.low, step.change, step.high), None, "FAIL" if step.high < 0 else "", _step_title(step)) if position else None
            for position, step in enumerate(steps)
        ]
    )


def _step_title(step: Step) -> str:
    return f"{step.name}: {points(step.change)}, 90% interval [{points(step.low)}, {points(step.high)}]"


def _forest(rows: Sequence[tuple[tuple[float, float, float], float | None, str, str] | None]) -> Forest | None:
    """Rows of low end, value and high end with tolerance, verdict and title."""
    known = [row for row in rows if row]
    if not known:
        return None
    left = min(0.0, *(min(low, -(tolerance or 0.0)) for (low, _, _), tolerance, _, _ in known))
    right = max(0.0, *(high for (_, _, high), _, _, _ in known))
    scale = (FOREST_WIDTH - 2 * FOREST_MARGIN) / max(right - left, 0.02)

    def x(value: float) -> float:
        return round(FOREST_MARGIN + (value - left) * scale, 1)

    step = next((step for step in STEPS if (right - left) / step <= MOST_TICKS), STEPS[-1])
    values = [index * step for index in range(-int(1 / step), int(1 / step) + 1) if left <= index * step <= right]
    drawn = tuple(
        ForestRow(row[2], x(row[0][0]), x(row[0][2]), x(row[0][1]), None if row[1] is None else x(-row[1]), row[3])
        if row
        else None
        for row in rows
    )
    ticks = tuple(Tick(x(value), f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0")) for value in values)
    return Forest(FOREST_WIDTH, FOREST_HEIGHT, x(0), ticks, drawn)


@dataclass(frozen=True)
class StepLine:
    """One step of the way from encoder to answer."""

    name: str
    meaning: str
    accuracy: str
    change: str
    interval: str
    lost: bool
    supervised: bool


def step_lines(steps: Sequence[Step], n: int) -> tuple[StepLine, ...]:
    """A pair's steps over ``n`` images."""
    return tuple(
        StepLine(
            name=step.name,
            meaning=MEANING[step.name],
            accuracy=percent(step.correct, n),
            change=points(step.change) if position else "",
            interval=f"[{points(step.low)}, {points(step.high)}]" if position else "",
            lost=bool(position) and step.high < 0,
            supervised=step.name in SUPERVISED,
        )
        for position, step in enumerate(steps)
    )


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
