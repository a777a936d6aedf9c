"""Paired changes of accuracy, alone and averaged over image sets, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from emt_plugin.gate.comparison import LEVEL
from emt_plugin.gate.tango import PairedCounts, tango_interval


@dataclass(frozen=True)
class Change:
    """A change of accuracy on the same images.

    Attributes:
        value: accuracy after less accuracy before, a fraction.
        low: lower end of its two-sided 90 % interval.
        high: its upper end.
    """

    value: float
    low: float
    high: float


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> Change:
    """The change between two states on the same images in the same order, with Tango's (1998) interval.

    Raises:
        ValueError: no image, or lists of different length.
    """
    counts = PairedCounts.of(list(after), list(before))
    return Change(counts.gap, *tango_interval(counts, LEVEL))


def mean_change(changes: Sequence[Change]) -> Change | None:
    """The mean of changes on different image sets, each counting the same; None for none.

    Its interval is MOVER's (Zou and Donner 2008, Statistics in Medicine 27:1693-1702): distances from each estimate to its own
    bounds add up as squares, which holds because the sets share no image.
    """
    if not changes:
        return None
    value = fmean(change.value for change in changes)
    below = sqrt(sum((change.value - change.low) ** 2 for change in changes)) / len(changes)
    above = sqrt(sum((change.high - change.value) ** 2 for change in changes)) / len(changes)
    return Change(value, max(value - below, -1.0), min(value + above, 1.0))
