"""The p-value of a loss that is asked for at levels far below 5 %, where the normal approximation gives too many of them."""

from __future__ import annotations

from math import exp, lgamma, log
from statistics import NormalDist

from emt_plugin.stats.tango import PairedCounts, restricted_loss, tango_z

# Terms of a sum that are left out: far below any level.
TINY = 1e-15


def loss_p(counts: PairedCounts, tolerance: float) -> float:
    """One-sided p-value of a loss larger than a tolerance: the larger of Tango's and of one that is summed.

    Tango's is the normal tail of his score. Where few images differ the statistic is skewed and the tail is heavier: at a level
    of 0.001 three times as heavy. The other is the probability of a net loss of so many images or more, summed over all tables,
    where the true loss is the tolerance and the rest is as likely as it can be: an estimated p-value (Lloyd 2008, Australian &
    New Zealand Journal of Statistics 50:329-345).

    Args:
        counts: whole numbers of images.
        tolerance: a fraction.
    """
    score = NormalDist().cdf(tango_z(counts, -tolerance))
    return max(score, _tail(int(counts.n), int(counts.only_reference - counts.only_model), *_rates(counts, tolerance)))


def _rates(counts: PairedCounts, tolerance: float) -> tuple[float, float]:
    """The most likely probabilities of a gain and of a loss whose difference is the tolerance."""
    lost = min(1.0, max(tolerance, restricted_loss(counts, -tolerance)))
    return min(lost - tolerance, 1 - lost), lost


def _tail(images: int, net: int, gained: float, lost: float) -> float:
    """Probability of a net loss of ``net`` images or more."""
    total = 0.0
    for gains in range(images + 1):
        chance = _binomial(images, gains, gained)
        if chance > TINY:
            total += chance * _at_least(images - gains, net + gains, min(1.0, lost / (1 - gained)))
        elif gains > images * gained:
            break
    return min(1.0, total)


def _at_least(images: int, count: int, share: float) -> float:
    """Probability of ``count`` or more."""
    total = 0.0
    for found in range(max(count, 0), images + 1):
        chance = _binomial(images, found, share)
        total += chance
        if chance < TINY and found > images * share:
            break
    return total


def _binomial(n: int, k: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return float(k == (0 if p <= 0 else n))
    return exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p))
