"""The mean of independent estimates, with an interval put together from theirs."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import fmean

Interval = tuple[float, float, float]


def mean_interval(estimates: Sequence[Interval]) -> Interval:
    """The mean of estimates, each counting the same, with its interval by MOVER.

    Distances from each estimate to its own bounds add up as squares (Zou and Donner 2008, Statistics in Medicine
    27:1693-1702), which holds because the estimates share no image.

    Args:
        estimates: value, lower end and upper end of each.

    Returns:
        The same of their mean.

    Raises:
        ValueError: there are none.
    """
    if not estimates:
        raise ValueError("the mean of no estimate")
    value = fmean(estimate for estimate, _, _ in estimates)
    below = sqrt(sum((estimate - low) ** 2 for estimate, low, _ in estimates)) / len(estimates)
    above = sqrt(sum((estimate - high) ** 2 for estimate, _, high in estimates)) / len(estimates)
    return value, value - below, value + above
