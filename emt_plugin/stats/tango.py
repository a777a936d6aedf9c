"""Tango's score test and interval for the difference of two paired proportions.

Source: Tango (1998), Statistics in Medicine 17:891-908. It stays valid where a cell of the table is zero, which is
where Wald and bootstrap intervals are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist
from typing import NamedTuple

STEPS = 80


@dataclass(frozen=True)
class PairedCounts:
    """Images by who was right.

    Attributes:
        both: model and reference right (n11).
        only_model: model right, reference wrong (n10).
        only_reference: model wrong, reference right (n01).
        neither: both wrong (n00).
    """

    both: float
    only_model: float
    only_reference: float
    neither: float

    @classmethod
    def of(cls, model: Sequence[bool], reference: Sequence[bool]) -> PairedCounts:
        """Count outcomes on the same images in the same order.

        Raises:
            ValueError: the two are not of the same length.
        """
        pairs = list(zip(model, reference, strict=True))
        return cls(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def n(self) -> float:
        """Number of images."""
        return self.both + self.only_model + self.only_reference + self.neither

    @property
    def gap(self) -> float:
        """accuracy(model) - accuracy(reference), a fraction."""
        return (self.only_model - self.only_reference) / self.n

    @property
    def discordant(self) -> float:
        """Share of images on which exactly one of the two is right."""
        return (self.only_model + self.only_reference) / self.n


class Interval(NamedTuple):
    """A two-sided interval of the gap, fractions."""

    low: float
    high: float


def tango_z(counts: PairedCounts, gap: float) -> float:
    """The score statistic of H0: the true gap equals ``gap``; standard normal under H0, large where it is larger.

    At ``gap`` 0 it is McNemar's (b - c) / sqrt(b + c).
    """
    excess = counts.only_model - counts.only_reference - counts.n * gap
    deviation = _deviation(counts, gap)
    if deviation > 0:
        return excess / deviation
    return 0.0 if excess == 0 else inf if excess > 0 else -inf


def tango_interval(counts: PairedCounts, level: float) -> Interval:
    """All gaps that the score test does not reject, two-sided.

    Args:
        counts: at least one image.
        level: confidence, a fraction in (0, 1); 0.90 gives the two one-sided 5 % bounds.

    Raises:
        ValueError: no image, or a level out of range.
    """
    if counts.n <= 0 or not 0 < level < 1:
        raise ValueError(f"an interval needs images and a level in (0, 1), not n={counts.n}, level={level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = counts.gap

    def too_low(gap: float) -> bool:
        return _excess(counts, gap) - z * _deviation(counts, gap) > 0

    def too_high(gap: float) -> bool:
        return _excess(counts, gap) + z * _deviation(counts, gap) < 0

    return Interval(low=_boundary(too_low, -1.0, centre), high=_boundary(too_high, 1.0, centre))


def _excess(counts: PairedCounts, gap: float) -> float:
    return counts.only_model - counts.only_reference - counts.n * gap


def restricted_loss(counts: PairedCounts, gap: float) -> float:
    """The most likely probability that only the reference is right on an image, where the true gap is ``gap`` (Tango's q)."""
    n, b, c = counts.n, counts.only_model, counts.only_reference
    quadratic = 2 * n
    linear = -b - c + (2 * n - b + c) * gap
    constant = -c * gap * (1 - gap)
    return (sqrt(max(linear * linear - 4 * quadratic * constant, 0.0)) - linear) / (2 * quadratic)


def _deviation(counts: PairedCounts, gap: float) -> float:
    """Standard deviation of the excess, with the nuisance probability at its restricted maximum likelihood."""
    return sqrt(max(counts.n * (2 * restricted_loss(counts, gap) + gap * (1 - gap)), 0.0))


def _boundary(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where ``rejected`` turns false between ``outside`` and ``inside``, by bisection."""
    for _ in range(STEPS):
        middle = (outside + inside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return inside
