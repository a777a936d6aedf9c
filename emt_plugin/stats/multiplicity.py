"""Several tests at once: which of their findings may be chance."""

from __future__ import annotations

from collections.abc import Sequence

FALSE_DISCOVERIES = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statist. 6:65-70)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float], rate: float = FALSE_DISCOVERIES) -> list[bool]:
    """Which hypotheses are rejected at a false discovery rate (Benjamini and Hochberg 1995, JRSS B 57:289-300)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    largest = max((rank for rank, index in enumerate(order, 1) if p_values[index] <= rate * rank / len(order)), default=0)
    rejected = set(order[:largest])
    return [index in rejected for index in range(len(p_values))]
