"""Many simulated image sets at once, for docs/gate.md alone: the bets of ``emt_plugin.stats.sequential`` in floats, on numpy.

Nothing that takes a verdict imports this. A test shows that it stops where the whole numbers stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from statistics import NormalDist
from typing import Any

import numpy as np

from emt_plugin.stats import ALPHA, LEVEL, PairedCounts, tango_z, wilson_interval
from emt_plugin.stats.sequential import ENOUGH, SHARES, WHOLE, exact

SETS = 5000
SEED = 19980415
# Images that are looked at before those sets that are settled are left out.
BLOCK = 250
# Sets at a time, so that memory holds them.
CHUNK = 500
POWER = 0.8


@dataclass(frozen=True)
class Cell:
    """What image sets of one kind came to.

    Attributes:
        passed: how many of them PASS.
        failed: how many FAIL.
        median: images to a verdict, or all of them; half of the sets need no more.
        most: the same of nine in ten sets.
        sets: how many there were.
    """

    passed: int
    failed: int
    median: int
    most: int
    sets: int = SETS

    def rate(self, verdict: str) -> float:
        """Share of PASS, FAIL or INCONCLUSIVE."""
        counts = {"PASS": self.passed, "FAIL": self.failed, "INCONCLUSIVE": self.sets - self.passed - self.failed}
        return counts[verdict] / self.sets

    def bound(self, verdict: str) -> float:
        """Upper 95 % bound of that share (Wilson 1927)."""
        return wilson_interval(round(self.rate(verdict) * self.sets), self.sets, LEVEL).high


def cell(size: int, discordance: float, gap: float, tolerance: float, sets: int = SETS) -> Cell:
    """Image sets of exactly this gap and discordance, each in a random order, with images taken until the verdict.

    Args:
        size: images of a set.
        discordance: share of images on which one of model and reference is right.
        gap: of the whole set.
        tolerance: the largest loss that passes.
        sets: how many.
    """
    generator = np.random.default_rng([SEED, size, round(1e6 * discordance), round(1e6 * (1 + gap))])
    passed, failed, images = 0, 0, []
    for begin in range(0, sets, CHUNK):
        above, below = stops(shuffled(generator, size, discordance, gap, min(CHUNK, sets - begin)), tolerance)
        passed += int((above < below).sum())
        failed += int((below < above).sum())
        images.append(np.minimum(np.minimum(above, below), size))
    found = np.concatenate(images)
    return Cell(passed, failed, int(np.median(found)), int(np.quantile(found, 0.9)), sets)


def shuffled(generator: Any, size: int, discordance: float, gap: float, sets: int) -> Any:
    """Differences, model right - reference right, of each image in random orders, sets x images."""
    excess = round(size * gap)
    only_model = (round(size * discordance) + excess) // 2
    only_reference = only_model - excess
    differences = np.zeros(size, np.int8)
    differences[:only_model] = 1
    differences[only_model : only_model + only_reference] = -1
    return generator.permuted(np.tile(differences, (sets, 1)), axis=1)


def stops(differences: Any, tolerance: float) -> tuple[Any, Any]:
    """At which image "the gap is at most", and "at least, minus the tolerance" is rejected in each set; size + 1 for never.

    Of the two only the earlier is known: a set is left where one of them is.
    """
    sets, size = differences.shape
    loss = exact(tolerance) * size
    found = {sign: np.full(sets, size + 1) for sign in (1, -1)}
    most = {1: size + floor(-loss), -1: size + floor(loss)}
    wealth = {sign: np.ones((sets, len(SHARES))) for sign in most}
    total = {sign: np.zeros(sets, np.int64) for sign in most}
    active = np.arange(sets)
    for begin in range(0, size, BLOCK):
        block = differences[active, begin : begin + BLOCK].astype(np.int64)
        left = size - np.arange(begin, begin + block.shape[1])
        for sign, at in found.items():
            values = 1 + sign * block
            after = total[sign][active, None] + np.cumsum(values, axis=1)
            allowed = most[sign] - after + values
            growth = np.where(allowed > 0, values * left / np.maximum(allowed, 1), 1.0)
            highest = np.zeros(block.shape)
            for column, percent in enumerate(SHARES):
                share = percent / WHOLE
                made = wealth[sign][active, column, None] * np.cumprod(1 - share + share * growth, axis=1)
                wealth[sign][active, column] = made[:, -1]
                highest += made
            crossed = (highest >= ENOUGH * len(SHARES)) | (after > most[sign])
            hit = crossed.any(axis=1)
            at[active[hit]] = begin + 1 + crossed[hit].argmax(axis=1)
            total[sign][active] = after[:, -1]
        active = active[np.minimum(found[1][active], found[-1][active]) > size]
        if not len(active):
            break
    return found[1], found[-1]


def planned(discordance: float, gap: float, tolerance: float) -> int:
    """Images with which Tango's test at a number that is fixed beforehand settles four of five sets of this kind.

    The number by the normal approximation, with the nuisance probability at its restricted maximum likelihood.
    """
    shares = PairedCounts(1 - discordance, (discordance + gap) / 2, (discordance - gap) / 2, 0)
    distance = gap + tolerance
    under_null = distance / tango_z(shares, -tolerance)
    truly = (discordance - gap * gap) ** 0.5
    z = NormalDist().inv_cdf
    images: float = ((z(1 - ALPHA) * abs(under_null) + z(POWER) * truly) / distance) ** 2
    return ceil(images)
