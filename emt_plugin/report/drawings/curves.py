"""Geometry of a trajectory's charts: a curve for each image set, and all states by all image sets as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

from emt_plugin.analysis import Trajectory
from emt_plugin.analysis.trajectory import Cell, State
from emt_plugin.report.words.trajectory import changed, state_name
from emt_plugin.report.words.verdicts import percent, points

PANEL_WIDTH, PANEL_HEIGHT, MARGIN = 520, 320, 16
PLOT_LEFT, PLOT_TOP, PLOT_BOTTOM = 42, 40, 36
HEAT_LEFT, HEAT_TOP, HEAT_WIDTH, HEAT_HEIGHT = 190, 26, 120, 28
# A change of this much has the full colour.
FULL = 0.3


@dataclass(frozen=True)
class Point:
    """One state on one image set, in pixels."""

    x: float
    y: float
    low: float
    high: float
    verdict: str
    title: str


@dataclass(frozen=True)
class Panel:
    """Accuracy on one image set along a trajectory."""

    title: str
    trained_on: bool
    line: str
    points: tuple[Point, ...]
    base: float
    encoder: float | None


@dataclass(frozen=True)
class Curves:
    """Small multiples, all with the same axes: steps to the right, accuracy upwards."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    last: str
    panels: tuple[Panel, ...]


def curves(run: Trajectory) -> Curves:
    """The curves of a trajectory."""
    steps = max(state.step for state in run.states) or 1
    right = PANEL_WIDTH - MARGIN

    def x(step: int) -> float:
        return round(PLOT_LEFT + (right - PLOT_LEFT) * step / steps, 1)

    lowest, highest = _range(run)

    def y(share: float) -> float:
        part = (min(max(share, lowest), highest) - lowest) / (highest - lowest)
        return round(PANEL_HEIGHT - PLOT_BOTTOM - (PANEL_HEIGHT - PLOT_BOTTOM - PLOT_TOP) * part, 1)

    panels = []
    for index, name in enumerate(run.image_sets):
        cells = [state.cells[index] for state in run.states]
        base = cells[0].correct / cells[0].n
        marks = tuple(_point(state, cell, base, x, y) for state, cell in zip(run.states, cells, strict=True))
        encoder = cells[0].encoder_correct
        panels.append(
            Panel(
                title=name,
                trained_on=name in run.trained_on,
                line=" ".join(f"{mark.x},{mark.y}" for mark in marks),
                points=marks,
                base=y(base),
                encoder=None if encoder is None else y(encoder / cells[0].n),
            )
        )
    return Curves(
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        left=PLOT_LEFT,
        right=right,
        top=PLOT_TOP,
        bottom=PANEL_HEIGHT - PLOT_BOTTOM,
        ticks=tuple((y(share), f"{100 * share:.0f}") for share in (lowest, (lowest + highest) / 2, highest)),
        last=state_name(run.states[-1]),
        panels=tuple(panels),
    )


def _range(run: Trajectory) -> tuple[float, float]:
    """The accuracies between which all marks lie, tenths."""
    shares = []
    for index in range(len(run.image_sets)):
        base = run.states[0].cells[index]
        shares += [cell.correct / cell.n for cell in (state.cells[index] for state in run.states)]
        shares += [base.correct / base.n + end for state in run.states if (found := state.cells[index].change)
                   for end in (found.low, found.high)]  # fmt: skip
        if base.encoder_correct is not None:
            shares.append(base.encoder_correct / base.n)
    lowest = max(floor(10 * min(shares)) / 10, 0.0)
    highest = min(ceil(10 * max(shares)) / 10, 1.0)
    return (lowest, highest) if highest > lowest else (max(lowest - 0.1, 0.0), min(highest + 0.1, 1.0))


def _point(state: State, cell: Cell, base: float, x: Callable[[int], float], y: Callable[[float], float]) -> Point:
    share = cell.correct / cell.n
    change = cell.change
    return Point(
        x=x(state.step),
        y=y(share),
        low=y(base + change.low) if change else y(share),
        high=y(base + change.high) if change else y(share),
        verdict=cell.verdict or "" if change else "",
        title=f"{state_name(state)}: {percent(share)}" + (f", {changed(change)} since the base" if change else ""),
    )


@dataclass(frozen=True)
class HeatCell:
    """One state on one image set: the change since the base, and how strong its colour is."""

    x: float
    y: float
    text: str
    lost: bool
    strength: float
    title: str


@dataclass(frozen=True)
class HeatMap:
    """States by image sets."""

    width: float
    height: float
    left: float
    cell_width: float
    cell_height: float
    columns: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, str], ...]
    cells: tuple[HeatCell, ...]


def heat_map(runs: Sequence[Trajectory]) -> HeatMap:
    """All checkpoints of some trajectories by all image sets; colours are changes since the base."""
    names = list(dict.fromkeys(name for run in runs for name in run.image_sets))
    rows: list[tuple[float, str]] = []
    cells: list[HeatCell] = []
    for run in runs:
        for state in run.states[1:]:
            top = HEAT_TOP + HEAT_HEIGHT * len(rows)
            title = f"{run.name}, {state_name(state)}" if len(runs) > 1 else state_name(state)
            rows.append((top + HEAT_HEIGHT / 2, title))
            cells += [
                HeatCell(
                    x=HEAT_LEFT + HEAT_WIDTH * names.index(cell.image_set),
                    y=top,
                    text=points(cell.change.value),
                    lost=cell.change.value < 0,
                    strength=round(min(abs(cell.change.value) / FULL, 1.0), 3),
                    title=f"{title}, {cell.image_set}: {changed(cell.change)}",
                )
                for cell in state.cells
                if cell.change
            ]
    return HeatMap(
        width=HEAT_LEFT + HEAT_WIDTH * len(names),
        height=HEAT_TOP + HEAT_HEIGHT * len(rows) + 2,
        left=HEAT_LEFT,
        cell_width=HEAT_WIDTH,
        cell_height=HEAT_HEIGHT,
        columns=tuple((HEAT_LEFT + HEAT_WIDTH * (index + 0.5), name) for index, name in enumerate(names)),
        rows=tuple(rows),
        cells=tuple(cells),
    )
