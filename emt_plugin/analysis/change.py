"""Paired changes of accuracy, alone and averaged over image sets, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.stats import LEVEL, PairedCounts, mean_interval, tango_interval


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
    """The mean of changes on different image sets, each counting the same, with MOVER's interval; None for none."""
    if not changes:
        return None
    value, low, high = mean_interval([(change.value, change.low, change.high) for change in changes])
    return Change(value, max(low, -1.0), min(high, 1.0))
