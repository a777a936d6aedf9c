"""What became of each class: how often it is right, and what it is taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.records import PairRecord, Row
from emt_plugin.report.words.verdicts import percent, points
from emt_plugin.stats import LEVEL, wilson_interval

MOST_CLASSES = 120
MOST_CONFUSIONS = 12
# With fewer images a class's share says little.
FEW = 10


@dataclass(frozen=True)
class ClassLine:
    """One class of a pair.

    Attributes:
        name: label name.
        n: images.
        model: share that the model gets right, in words.
        interval: its 90 % interval (Wilson 1927).
        reference: share that the reference gets right; a dash without one.
        gap: the difference in points.
        taken_for: what it is most often taken for, and how often.
        few: there are too few images to say much.
    """

    name: str
    n: int
    model: str
    interval: str
    reference: str
    gap: str
    taken_for: str
    few: bool


def class_lines(pair: PairRecord, rows: Sequence[Row], counts: Sequence[Sequence[int]] | None) -> tuple[ClassLine, ...]:
    """All classes that have images, those furthest below the reference first.

    Args:
        pair: its record.
        rows: its images.
        counts: by label and prediction, as from ``confusion``; None for a scorer that names no class.
    """
    gating = pair.gating
    seen = [0] * len(pair.labels)
    right = [0] * len(pair.labels)
    theirs = [0] * len(pair.labels)
    for row in rows:
        seen[row.label] += 1
        right[row.label] += row.correct
        theirs[row.label] += gating is not None and row.reference_right(gating.reference.key, gating.scorer)
    order = sorted((index for index, n in enumerate(seen) if n), key=lambda index: (right[index] - theirs[index]) / seen[index])
    return tuple(
        ClassLine(
            name=pair.labels[index],
            n=seen[index],
            model=percent(right[index], seen[index]),
            interval="[{}, {}]".format(*(percent(end) for end in wilson_interval(right[index], seen[index], LEVEL))),
            reference=percent(theirs[index], seen[index]) if gating else "–",
            gap=points((right[index] - theirs[index]) / seen[index]) if gating else "–",
            taken_for=_taken_for(index, counts[index], pair.labels) if counts else "–",
            few=seen[index] < FEW,
        )
        for index in order
    )


def _taken_for(index: int, line: Sequence[int], labels: Sequence[str]) -> str:
    wrong = [(count, column) for column, count in enumerate(line) if count and column != index]
    if not wrong:
        return "–"
    count, column = max(wrong, key=lambda found: (found[0], -found[1]))
    return f"{[*labels, 'no class'][column]} ({count})"


def confusion(rows: Sequence[Row], classes: int) -> list[list[int]]:
    """Counts by label and prediction; the last column counts answers that name no class."""
    counts = [[0] * (classes + 1) for _ in range(classes)]
    for row in rows:
        counts[row.label][classes if row.prediction is None else row.prediction] += 1
    return counts


def confusions(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> tuple[tuple[str, str, int, str], ...]:
    """All confusions, the most frequent first: label, what it was read as, images, share of the label's images."""
    names = [*labels, "no class"]
    wrong = [
        (labels[row], names[column], count, percent(count, sum(line)))
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count and row != column
    ]
    return tuple(sorted(wrong, key=lambda found: -found[2]))
