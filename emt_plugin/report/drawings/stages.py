"""Geometry of the way from encoder to answer: a line for each pair, in points above or below where it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.analysis.steps import ANSWER, CLEAN_ANSWER, ENCODER, ORDER, SUPERVISED, Step
from emt_plugin.records import PairRecord
from emt_plugin.report.words.verdicts import percent, points

WIDE, NARROW, HEIGHT = 960, 420, 380
LEFT, TOP, BOTTOM, LABELS, RIGHT = 44, 20, 44, 230, 26
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 6
# More names than these cannot be told apart; the others are named where one points at them, and in the table.
MOST_NAMED = 12
LINE_HEIGHT = 18
# Of more lines no single stop can be made out.
MOST_WITH_STOPS = 40
MOST_NAME = 26


@dataclass(frozen=True)
class Stop:
    """One stage of one pair, in pixels."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class StageLine:
    """One pair.

    Attributes:
        pair: its id.
        verdict: its verdict, empty for none.
        stops: its stages; none where there are too many lines.
        line: all of them as the points of a line.
        name: what stands at its end.
        change: from the first stage to the last, in points.
        end: where the line ends.
        label_y: where its name stands; None where it has none.
    """

    pair: str
    verdict: str
    stops: tuple[Stop, ...]
    line: str
    name: str
    change: str
    end: float
    label_y: float | None


@dataclass(frozen=True)
class StageChart:
    """All pairs on one axis of differences, the first stage at zero."""

    width: int
    height: int
    left: float
    right: float
    zero: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    stages: tuple[tuple[float, str, bool], ...]
    lines: tuple[StageLine, ...]


def stage_chart(pairs: Sequence[PairRecord], narrow: bool = False) -> StageChart | None:
    """The chart; None where there is nothing to see between encoder and answer.

    Args:
        pairs: of a run.
        narrow: for a small screen: without names at the lines' ends.
    """
    shown = [pair for pair in pairs if len(pair.steps) > 1 and pair.n]
    names = [name for name in ORDER if any(step.name == name for pair in shown for step in pair.steps)]
    if not set(names) - {ENCODER, ANSWER, CLEAN_ANSWER}:
        return None
    width = NARROW if narrow else WIDE
    right = width - (RIGHT if narrow else LABELS)
    values = [_change(pair, step) for pair in shown for step in pair.steps]
    margin = max(max(values) - min(values), 0.02) * 0.06
    lowest, highest = min(values) - margin, max(values) + margin

    def x(name: str) -> float:
        return round(LEFT + 14 + (right - LEFT - 28) * names.index(name) / (len(names) - 1), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (highest - value) / (highest - lowest), 1)

    step = next((step for step in STEPS if (highest - lowest) / step <= MOST_TICKS), STEPS[-1])
    ticks = [index * step for index in range(-int(1 / step), int(1 / step) + 1) if lowest <= index * step <= highest]
    ends = _labels([y(_change(pair, pair.steps[-1])) for pair in shown], [_change(pair, pair.steps[-1]) for pair in shown])
    one_model = len({pair.key.model for pair in shown}) == 1
    lines = []
    for pair, height in zip(shown, ends, strict=True):
        stops = tuple(Stop(x(step.name), y(_change(pair, step)), _title(pair, step)) for step in pair.steps)
        lines.append(
            StageLine(
                pair=pair.key.id,
                verdict=pair.gating.verdict if pair.gating else "",
                stops=stops if len(shown) <= MOST_WITH_STOPS else (),
                line=" ".join(f"{stop.x},{stop.y}" for stop in stops),
                name=_short(pair.key.image_set if one_model and pair.key.checkpoint is None else pair.key.id),
                change=points(_change(pair, pair.steps[-1])),
                end=stops[-1].x,
                label_y=None if narrow else height,
            )
        )
    return StageChart(
        width=width,
        height=HEIGHT,
        left=LEFT,
        right=right,
        zero=y(0.0),
        bottom=HEIGHT - BOTTOM,
        ticks=tuple((y(value), f"{100 * value:+.0f}".replace("-", "−").replace("+0", "0")) for value in ticks),
        stages=tuple((x(name), name, name in SUPERVISED) for name in names),
        # What matters most is drawn last, and so on top.
        lines=tuple(sorted(lines, key=lambda line: ("PASS", "", "INCONCLUSIVE", "FAIL").index(line.verdict))),
    )


def _change(pair: PairRecord, step: Step) -> float:
    """Accuracy at a stage less accuracy at the first, a fraction."""
    return (step.correct - pair.steps[0].correct) / pair.n


def _title(pair: PairRecord, step: Step) -> str:
    return (
        f"{pair.key.id}, {step.name}: {percent(step.correct, pair.n)}, {points(_change(pair, step))} from {pair.steps[0].name}"
    )


def _labels(ends: Sequence[float], changes: Sequence[float]) -> list[float | None]:
    """Where the names of lines stand that end at some heights, so that none covers another; the largest losses have names."""
    named = sorted(range(len(ends)), key=lambda index: changes[index])[:MOST_NAMED]
    order = sorted(named, key=lambda index: ends[index])
    places: dict[int, float] = {}
    above, below = -float("inf"), float(HEIGHT - BOTTOM + LINE_HEIGHT)
    for index in order:
        above = places[index] = max(ends[index], above + LINE_HEIGHT)
    for index in reversed(order):
        below = places[index] = min(places[index], below - LINE_HEIGHT)
    return [round(places[index], 1) if index in places else None for index in range(len(ends))]


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"
