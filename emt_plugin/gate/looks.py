"""Looks at a model in training: each is at another model, and any of them may stop the training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from emt_plugin.gate.comparison import Reference, Verdict, compare
from emt_plugin.gate.tolerances import Tolerance
from emt_plugin.stats import PairedCounts, alpha_at, holm, loss_p, tango_interval

Outcomes = Sequence[bool]
BASE = Reference("model", "step 0")


@dataclass(frozen=True)
class Finding:
    """What one look found on one image set.

    Attributes:
        gap: accuracy(now) - accuracy(at step 0), a fraction.
        low: lower end of the gap's interval.
        high: upper end. The intervals of all looks and of all sets that may stop hold together with 1 - 2 alpha; where one of
            these has failed, one ``high`` lies below minus the tolerance.
        p: one-sided p-value of a loss larger than the tolerance.
        failed: more is lost than the tolerance, at what this look may spend of alpha, by Holm over the sets that may stop; no
            other set fails.
        verdict: what the gate says of this state by itself, at alpha.
    """

    gap: float
    low: float
    high: float
    p: float
    failed: bool
    verdict: Verdict


def findings(
    now: Mapping[str, Outcomes],
    base: Mapping[str, Outcomes],
    outside: Collection[str],
    look: int,
    tolerance: float,
    chance: Mapping[str, float],
) -> dict[str, Finding]:
    """Compare a model in training with what it was at step 0, on the same images.

    Args:
        now: by image set, whether it is right on each image.
        base: whether it was at step 0.
        outside: image sets outside the domain, which may stop the training.
        look: its number, from 1.
        tolerance: the largest loss that is accepted, a fraction.
        chance: by image set, accuracy of one who does not look.

    Raises:
        ValueError: no image, or lists of different length.
    """
    alpha = alpha_at(look)
    counts = {name: PairedCounts.of(outcomes, base[name]) for name, outcomes in now.items()}
    p_values = {name: loss_p(found, tolerance) for name, found in counts.items()}
    tested = [name for name in counts if name in outside]
    adjusted = dict(zip(tested, holm([p_values[name] for name in tested]), strict=True))
    level = 1 - 2 * alpha / max(1, len(tested))
    policy = Tolerance(tolerance, "the callback", tolerance)
    found = {}
    for name, table in counts.items():
        low, high = tango_interval(table, level)
        verdict = compare(now[name], base[name], BASE, policy, chance=chance[name]).verdict
        found[name] = Finding(table.gap, low, high, p_values[name], adjusted.get(name, 1.0) < alpha, verdict)
    return found
