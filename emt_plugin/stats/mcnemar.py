"""McNemar's exact test of two paired proportions."""

from __future__ import annotations

from fractions import Fraction
from math import comb


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of as many images gained as lost (McNemar 1947, Psychometrika 12:153-157; binomial)."""
    flipped = gained + lost
    tail = sum(comb(flipped, count) for count in range(min(gained, lost) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**flipped)))
