"""Sums of a finite population, tested image by image in a random order without replacement, valid whenever one stops.

A null "the values of the whole population sum to no more than t" is bet against (Waudby-Smith & Ramdas 2020, arXiv
2006.04347, and 2024, JRSS B 86:1-27, section 5). With values u of 0, 1 or 2, of which i - 1 are known and sum to s, the null
lets the mean of those that are left be no more than (t - s) / (N - i + 1), so a share f of the wealth grows by

    1 - f + f u (N - i + 1) / (t - s)

and by no more than 1 on average. The wealth is the mean over a few shares, begins at 1 and reaches w with a probability of
at most 1 / w, at any time (Ville 1939): 25 with at most 0.04, which is within the level of 0.05. Once s exceeds t the null is
refuted, not just improbable.

All arithmetic is in whole numbers. A wealth is kept in units of 2^-128 and rounded down at each image, which costs power and
never validity: at each image the error is less than one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Literal

from emt_plugin.stats.tango import Interval

# Shares of the wealth that are bet, in percent: for clear losses and rare discordance the large ones grow fastest.
SHARES = (9, 13, 18, 25, 35, 50, 71, 100)
WHOLE = 100
UNIT = 1 << 128
# 1 / ALPHA = 20 would do. A fifth less leaves a simulation of some thousand populations room to show that ALPHA is kept.
ENOUGH = 25
MOST = 2
MOST_DENOMINATOR = 10**6
Side = Literal["above", "below"]


@dataclass
class Wealth:
    """What bets against one null have made.

    Attributes:
        most: the null: all values of the population sum to no more than this.
        size: values in the population, N.
        total: sum of the values so far.
        seen: how many they are.
        highest: the largest wealth so far, in units; the number of shares times ``UNIT`` at the start.
        refuted: the sum exceeds what the null allows.
    """

    most: int
    size: int
    total: int = 0
    seen: int = 0
    refuted: bool = False
    highest: int = UNIT * len(SHARES)
    _shares: list[int] = field(default_factory=lambda: [UNIT] * len(SHARES))

    def __post_init__(self) -> None:
        self.refuted = self.most < 0

    @property
    def rejected(self) -> bool:
        """The null was rejected at level alpha, whatever comes after."""
        return self.refuted or self.highest >= ENOUGH * UNIT * len(SHARES)

    @property
    def p(self) -> float:
        """The p-value, valid at any time: one over the largest wealth."""
        return 0.0 if self.refuted else float(Fraction(UNIT * len(SHARES), self.highest))

    def see(self, value: int) -> None:
        """The next value: 0, 1 or 2.

        Raises:
            ValueError: another value, or more values than the population has.
        """
        if value not in range(MOST + 1) or self.seen >= self.size:
            raise ValueError(f"value {self.seen + 1} of {self.size} is {value}; it must be 0, 1 or 2, and one of them")
        left, allowed = self.size - self.seen, self.most - self.total
        self.seen += 1
        self.total += value
        self.refuted = self.refuted or self.total > self.most
        # Where nothing is allowed any more, a value of 0 says nothing and any other refutes.
        if self.refuted or not allowed:
            return
        below, price = WHOLE * allowed, value * left
        self._shares = [
            wealth * ((WHOLE - share) * allowed + share * price) // below
            for wealth, share in zip(self._shares, SHARES, strict=True)
        ]
        self.highest = max(self.highest, sum(self._shares))


def bets(values: Iterable[int], most: int, size: int) -> Wealth:
    """Bets against "the population sums to no more than ``most``", until that is rejected or there are no more values."""
    wealth = Wealth(most, size)
    for value in values:
        if wealth.rejected:
            break
        wealth.see(value)
    return wealth


@dataclass(frozen=True)
class Settled:
    """A sequential test of a gap, as far as it went.

    Attributes:
        stopped_at: images until it was settled, or all that there were.
        side: of minus the tolerance on which the gap is; None where that is not settled.
        reference_beats: the reference does better than chance.
        p: p-value of "no more is lost than the tolerance", valid at any time: small where more is.
    """

    stopped_at: int
    side: Side | None
    reference_beats: bool
    p: float


class SequentialGap:
    """Watches paired outcomes in the fixed order of a population, and stops at the first image that settles the verdict.

    A gap above minus the tolerance and a reference above chance are each rejected nulls at level alpha, and PASS needs both; so
    does FAIL one. What side of minus the tolerance the gap is on is settled once.

    Args:
        size: images in the population, N.
        tolerance: the largest loss, a fraction.
        chance: accuracy of one who does not look, a fraction; None where it is not known.
    """

    def __init__(self, size: int, tolerance: float, chance: float | None = None) -> None:
        loss = exact(tolerance) * size
        # model right - reference right + 1, and its mirror.
        self._passing = Wealth(size + floor(-loss), size)
        self._failing = Wealth(size + floor(loss), size)
        self._looking = None if chance is None else Wealth(MOST * floor(exact(chance) * size), size)
        self._side: Side | None = None
        self._seen = 0

    def see(self, model: bool, reference: bool) -> bool:
        """The next image; True once nothing more need be seen.

        Raises:
            ValueError: it is settled, or there are no more images in the population.
        """
        if self.is_final:
            raise ValueError(f"the verdict was settled at image {self._seen}")
        self._seen += 1
        difference = int(model) - int(reference)
        self._passing.see(1 + difference)
        self._failing.see(1 - difference)
        if self._looking:
            self._looking.see(MOST * int(reference))
        if self._side is None and self._passing.rejected:
            self._side = "above"
        elif self._side is None and self._failing.rejected:
            self._side = "below"
        return self.is_final

    @property
    def reference_beats(self) -> bool:
        """The reference was shown to do better than chance; also where chance is not known."""
        return self._looking is None or self._looking.rejected

    @property
    def is_final(self) -> bool:
        """More images would change nothing."""
        return self._side == "below" or (self._side == "above" and self.reference_beats)

    @property
    def settled(self) -> Settled:
        """What is known so far."""
        return Settled(self._seen, self._side, self.reference_beats, self._failing.p)


def exact(value: float) -> Fraction:
    """The simple fraction that a float stands for: 0.05 is 1/20, and 1/7 is a seventh."""
    return Fraction(value).limit_denominator(MOST_DENOMINATOR)


def sequential_interval(differences: Sequence[int], size: int) -> Interval:
    """All gaps of the whole population that no bet at level alpha on either side has rejected at any time so far.

    It holds at all times together with a probability of at least 1 - 2 alpha, and agrees with the tests: the lower end lies
    above minus the tolerance if and only if a gap of no more than that is rejected. With all of the population it is the gap.

    Args:
        differences: model right - reference right of each image seen, in their order: -1, 0 or 1.
        size: images in the population, N.

    Raises:
        ValueError: no image, or more than the population has.
    """
    if not 0 < len(differences) <= size:
        raise ValueError(f"an interval needs images, and no more than {size}, not {len(differences)}")
    if len(differences) == size:
        return Interval(sum(differences) / size, sum(differences) / size)
    low, when_low = _least(differences, size)
    high, when_high = _least([-difference for difference in differences], size)
    high = -high
    if low > high:
        # The sides exclude each other, which is as rare as an error: what was excluded first stands.
        low, high = (low, low) if when_low <= when_high else (high, high)
    return Interval(low / size, high / size)


def sequential_p(differences: Sequence[int], size: int) -> float:
    """The two-sided p-value of no gap at all in the whole population, valid at any time.

    Args:
        differences: as of ``sequential_interval``.
        size: images in the population, N.
    """
    found = 1.0
    for sign in (1, -1):
        wealth = Wealth(size, size)
        for difference in differences:
            wealth.see(1 + sign * difference)
        found = min(found, 2 * wealth.p)
    return found


def _least(differences: Sequence[int], size: int) -> tuple[int, int]:
    """The smallest sum of all differences that is not rejected as too low, and when the one below it was."""
    values = [1 + difference for difference in differences]
    rejected, kept, when = -1, MOST * size, 0
    # The more a null allows, the less is made against it: what is rejected lies below what is not.
    while kept - rejected > 1:
        middle = (rejected + kept) // 2
        wealth = bets(values, middle, size)
        if wealth.rejected:
            rejected, when = middle, wealth.seen
        else:
            kept = middle
    return kept - size, when
