"""One comparison with its verdict, and what the run's other comparisons say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import NormalDist
from typing import Literal

from emt_plugin.gate.tolerances import Tolerance
from emt_plugin.stats import (
    ALPHA,
    LEVEL,
    PairedCounts,
    SequentialGap,
    holm,
    sequential_interval,
    tango_interval,
    tango_z,
    wilson_interval,
)
from emt_plugin.stats.tango import Interval

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
MOST_IMAGES = 10_000_000


@dataclass(frozen=True)
class Reference:
    """What a model is compared with on the same images.

    Attributes:
        kind: what sort of thing that is.
        id: what it is called.
    """

    kind: Literal["encoder", "model", "checkpoint", "probe", "run"]
    id: str

    @property
    def key(self) -> str:
        """What its predictions are filed under."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True)
class Sequential:
    """How far a comparison went that was taken image by image, in the fixed order of the split, and is of the whole split.

    Attributes:
        stopped_at: images seen, of all that the comparison counts.
        of: images of the split.
        beats_chance: the reference was shown to beat chance; also where chance is not known.
    """

    stopped_at: int
    of: int
    beats_chance: bool = True


@dataclass(frozen=True)
class Comparison:
    """A model against a reference on one image set.

    Attributes:
        scorer: name of the scorer whose ``correct`` is compared.
        reference: what it is compared with.
        n11: images that both get right.
        n10: images that only the model gets right.
        n01: images that only the reference gets right.
        n00: images that neither gets right.
        gap: accuracy(model) - accuracy(reference), a fraction.
        level: confidence of the interval, two-sided.
        low: lower end of the interval of the gap.
        high: upper end of the interval of the gap.
        tolerance: what the verdict was taken at, and where that comes from.
        verdict: PASS, FAIL or INCONCLUSIVE.
        p: one-sided p-value of a loss larger than the tolerance.
        p_holm: the same, adjusted over the run's comparisons that gate.
        n_needed: images that would settle it at the observed gap and discordance; None if settled, or never.
        chance: accuracy of one who does not look; None where a record does not say.
        sequential: how far it went where it was taken image by image, and interval and p are valid whenever one stops; None
            where the number of images was fixed beforehand.
    """

    scorer: str
    reference: Reference
    n11: int
    n10: int
    n01: int
    n00: int
    gap: float
    level: float
    low: float
    high: float
    tolerance: Tolerance
    verdict: Verdict
    p: float
    p_holm: float | None
    n_needed: int | None
    chance: float | None = None
    sequential: Sequential | None = None

    @property
    def n(self) -> int:
        """Images."""
        return self.n11 + self.n10 + self.n01 + self.n00

    @property
    def nothing_to_forget(self) -> bool:
        """The reference is not shown to beat chance: its one-sided 95 % lower bound (Wilson 1927) is no larger."""
        if self.sequential:
            return not self.sequential.beats_chance
        return self.chance is not None and wilson_interval(self.n11 + self.n01, self.n, self.level).low <= self.chance

    def verdict_at(self, tolerance: float) -> Verdict:
        """The verdict at another tolerance, a fraction."""
        return _verdict(self.low, self.high, tolerance, self.nothing_to_forget)

    @property
    def may_be_chance(self) -> bool:
        """A FAIL that does not survive Holm's adjustment over the run's pairs."""
        return self.verdict == "FAIL" and self.p_holm is not None and self.p_holm >= ALPHA

    @property
    def by_accepted_loss(self) -> bool:
        """It passes, and would not pass by policy alone."""
        return self.verdict == "PASS" and self.tolerance.accepted and self.low <= -self.tolerance.policy


def compare(
    model: Sequence[bool],
    reference: Sequence[bool],
    against: Reference,
    tolerance: Tolerance,
    scorer: str = "answer",
    chance: float | None = None,
) -> Comparison:
    """Compare a model's outcomes with a reference's on the same images, in the same order.

    PASS if the lower bound of the gap lies above minus the tolerance and the reference beats chance, FAIL if the upper
    bound lies below minus the tolerance, INCONCLUSIVE otherwise; all bounds one-sided at 5 %.

    Args:
        model: whether the model is right on each image.
        reference: whether the reference is.
        against: what it is.
        tolerance: the largest loss that passes.
        scorer: whose outcomes these are.
        chance: see ``chance_of``; None where it is not known.

    Raises:
        ValueError: no image, or two lists of different length.
    """
    counts = PairedCounts.of(model, reference)
    interval = tango_interval(counts, LEVEL)
    p = NormalDist().cdf(tango_z(counts, -tolerance.value))
    found = _unjudged(counts, scorer, against, tolerance, interval, p, chance)
    verdict = found.verdict_at(tolerance.value)
    settles = verdict == "INCONCLUSIVE" and not found.nothing_to_forget
    return replace(found, verdict=verdict, n_needed=images_needed(counts, tolerance.value) if settles else None)


def compare_in_order(
    model: Sequence[bool],
    reference: Sequence[bool],
    against: Reference,
    tolerance: Tolerance,
    of: int,
    scorer: str = "answer",
    chance: float | None = None,
) -> Comparison:
    """Compare outcomes that were taken image by image, for as long as someone chose to go on.

    The verdict, the interval and the p-value are of the whole split, and hold whenever one stops. PASS and FAIL are the first
    that the bets settle; with all of the split its gap is known, and else what is not settled is INCONCLUSIVE.

    Args:
        model: whether the model is right on each image, in the fixed order of the split.
        reference: whether the reference is.
        against: what it is.
        tolerance: the largest loss that passes.
        of: images of the split.
        scorer: whose outcomes these are.
        chance: see ``chance_of``; None where it is not known.

    Raises:
        ValueError: no image, more than the split has, or two lists of different length.
    """
    counts = PairedCounts.of(model, reference)
    gap = SequentialGap(of, tolerance.value, chance)
    for right, theirs in zip(model, reference, strict=True):
        if gap.see(right, theirs):
            break
    settled = gap.settled
    interval = sequential_interval([int(a) - int(b) for a, b in zip(model, reference, strict=True)], of)
    found = _unjudged(counts, scorer, against, tolerance, interval, settled.p, chance)
    found = replace(found, sequential=Sequential(len(model), of, settled.reference_beats))
    return replace(found, verdict=found.verdict_at(tolerance.value))


def _unjudged(
    counts: PairedCounts,
    scorer: str,
    against: Reference,
    tolerance: Tolerance,
    interval: Interval,
    p: float,
    chance: float | None,
) -> Comparison:
    """A comparison whose verdict is still to be taken."""
    return Comparison(
        scorer=scorer,
        reference=against,
        n11=int(counts.both),
        n10=int(counts.only_model),
        n01=int(counts.only_reference),
        n00=int(counts.neither),
        gap=counts.gap,
        level=LEVEL,
        low=interval.low,
        high=interval.high,
        tolerance=tolerance,
        verdict="INCONCLUSIVE",
        p=p,
        p_holm=None,
        n_needed=None,
        chance=chance,
    )


def chance_of(labels: Sequence[int], classes: int) -> float:
    """Accuracy of one who does not look: 1/K, or the largest class's share of the images where that is more.

    Args:
        labels: the class of each image.
        classes: how many there are to choose from, K.
    """
    return max(1 / classes, max(Counter(labels).values()) / len(labels))


def with_itself(comparison: Comparison) -> Comparison:
    """A comparison of a model with itself, which is no estimate: nothing is lost, whatever the number of images."""
    verdict = _verdict(0.0, 0.0, comparison.tolerance.value, comparison.nothing_to_forget)
    return replace(comparison, gap=0.0, low=0.0, high=0.0, verdict=verdict, p=0.0, p_holm=None, n_needed=None)


def verdict_of(low: float, high: float, tolerance: float) -> Verdict:
    """The verdict of an interval of the gap; ``tolerance`` is a fraction."""
    if low > -tolerance:
        return "PASS"
    return "FAIL" if high < -tolerance else "INCONCLUSIVE"


def _verdict(low: float, high: float, tolerance: float, nothing_to_forget: bool) -> Verdict:
    found = verdict_of(low, high, tolerance)
    return "INCONCLUSIVE" if found == "PASS" and nothing_to_forget else found


def images_needed(counts: PairedCounts, tolerance: float) -> int | None:
    """The smallest number of images that settles the verdict if gap and discordance stay as observed; None if none does."""

    def settled(n: int) -> bool:
        scale = n / counts.n
        scaled = PairedCounts(
            *(cell * scale for cell in (counts.both, counts.only_model, counts.only_reference, counts.neither))
        )
        return verdict_of(*tango_interval(scaled, LEVEL), tolerance) != "INCONCLUSIVE"

    low, high = ceil(counts.n), ceil(counts.n)
    while not settled(high):
        low, high = high, high * 2
        if high > MOST_IMAGES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high


def with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with p-values adjusted over all of them. Verdicts do not change."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, adjusted, strict=True)]
