"""Wilson's score interval for a share: Wilson (1927), JASA 22:209-212. It holds at none and at all, where others say 0."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from emt_plugin.stats.tango import Interval


def wilson_interval(count: int, n: int, level: float) -> Interval:
    """The interval of a share.

    Args:
        count: how many of ``n``.
        n: at least one.
        level: confidence, a fraction in (0, 1).

    Raises:
        ValueError: no n, or a count outside 0 to n.
    """
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"a share needs 0 <= count <= n and n >= 1, not count={count}, n={n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = count / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends rounding leaves a trace of what is exactly 0 or 1.
    return Interval(0.0 if count == 0 else (centre - half) / scale, 1.0 if count == n else (centre + half) / scale)
