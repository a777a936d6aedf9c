"""Geometry of what a line between a base and what was tuned from it exchanges: gain in the domain for loss elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from emt_plugin.analysis import Trajectory
from emt_plugin.analysis.trajectory import State
from emt_plugin.report.words.trajectory import changed, state_name

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 24, 44, 40
# Points of accuracy between two lines of the grid, the first that leaves no more than so many.
GRIDS, MOST_LINES = (0.01, 0.02, 0.05, 0.1, 0.2), 6
WORST = ("FAIL", "INCONCLUSIVE", "PASS")


@dataclass(frozen=True)
class Mark:
    """One state, in pixels; ``chosen`` is the one that was written."""

    x: float
    y: float
    label: str
    verdict: str
    chosen: bool
    title: str


@dataclass(frozen=True)
class Exchange:
    """Mean change elsewhere to the right, mean change in the domain upwards; the base is where both are 0."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    zero: tuple[float, float]
    columns: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, str], ...]
    line: str
    marks: tuple[Mark, ...]


def exchange(run: Trajectory) -> Exchange | None:
    """The chart of a line; None of a fine-tuning run, and where one of the two is not evaluated."""
    found = [(state, state.elsewhere.value, state.domain.value) for state in run.states if state.elsewhere and state.domain]
    if run.mending is None or not found:
        return None
    across, up = _grid([0.0, *(x for _, x, _ in found)]), _grid([0.0, *(y for _, _, y in found)])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + (right - LEFT) * (value - across[0]) / (across[-1] - across[0]), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - TOP) * (value - up[0]) / (up[-1] - up[0]), 1)

    marks = tuple(_mark(run, state, x(elsewhere), y(domain)) for state, elsewhere, domain in found)
    return Exchange(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        zero=(x(0.0), y(0.0)),
        columns=tuple((x(value), _points(value)) for value in across),
        rows=tuple((y(value), _points(value)) for value in up),
        line=" ".join(f"{one},{other}" for one, other in ((x(0.0), y(0.0)), *((mark.x, mark.y) for mark in marks))),
        marks=marks,
    )


def _mark(run: Trajectory, state: State, x: float, y: float) -> Mark:
    verdicts = {cell.verdict for cell in state.cells if cell.image_set not in run.trained_on}
    chosen = run.mending is not None and run.mending.written and state.alpha == run.mending.alpha
    return Mark(
        x=x,
        y=y,
        label=f"{state.alpha:g}" if state.alpha is not None else "",
        verdict=next((verdict for verdict in WORST if verdict in verdicts), ""),
        chosen=chosen,
        title=f"{state_name(state)}: {changed(state.domain)} in domain, {changed(state.elsewhere)} elsewhere",
    )


def _grid(values: list[float]) -> list[float]:
    """Where lines go, from below the least value to above the greatest."""
    for step in GRIDS:
        first, last = floor(min(values) / step), ceil(max(values) / step)
        if last - first < MOST_LINES:
            break
    return [step * at for at in range(first, max(last, first + 1) + 1)]


def _points(value: float) -> str:
    return f"{100 * value:+.0f}".replace("-", "−") if round(100 * value) else "0"
