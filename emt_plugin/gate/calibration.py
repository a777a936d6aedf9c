"""How often the gate errs: exact size, simulated power. ``python -m emt_plugin.gate.calibration`` writes docs/gate.md.

Size is the largest probability that a model which lost exactly the tolerance passes, over all rates of discordance.
It is computed by enumerating every table; nothing is drawn at random. Power is simulated with a fixed seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from math import exp, inf, lgamma, log
from statistics import NormalDist

from emt_plugin.gate import simulation
from emt_plugin.gate.comparison import verdict_of
from emt_plugin.stats import ALPHA, LEVEL, PairedCounts, tango_interval, tango_z

SIZES = (50, 100, 200, 500, 1000)
TOLERANCES = (0.02, 0.05, 0.10)
# Discordance beyond the tolerance itself: 49 rates, evenly spaced on a log scale.
DISCORDANCE = tuple(10 ** (-3 + 3 * step / 48) for step in range(49))
POWER_SIZES = (200, 500, 1000)
POWER_DISCORDANCE = (0.1, 0.2, 0.3)
POWER_GAPS = (0.0, -0.01, -0.10)
REPEATS = 2000
SEED = 19980415
# Of verdicts that are taken image by image.
SPLITS = (1000, 2000, 10_000)
EDGE_SPLITS = (200, 1000, 10_000)
EDGE_DISCORDANCE = (0.05, 0.1, 0.2, 0.3)
EARLY_GAPS = (0.0, -0.01, -0.03, -0.07, -0.10)


def fewest_to_pass(n: int, only_reference: int, tolerance: float) -> int:
    """The smallest number of images that only the model gets right with which a pair passes; n + 1 if none does."""
    z = NormalDist().inv_cdf(1 - ALPHA)
    low, high = 0, n - only_reference + 1
    while low < high:
        middle = (low + high) // 2
        counts = PairedCounts(n - only_reference - middle, middle, only_reference, 0)
        if tango_z(counts, -tolerance) > z:
            high = middle
        else:
            low = middle + 1
    return low if low <= n - only_reference else n + 1


def passing_rate(n: int, thresholds: Sequence[int], only_model: float, only_reference: float) -> float:
    """Exact probability of PASS.

    Args:
        n: images.
        thresholds: ``fewest_to_pass`` for each count of images that only the reference gets right, 0 to n.
        only_model: probability that only the model is right on an image.
        only_reference: probability that only the reference is right on an image.
    """
    total = 0.0
    for c in range(n + 1):
        log_c = _log_binomial(n, c, only_reference)
        if log_c == -inf or thresholds[c] > n - c:
            continue
        rest = min(1.0, only_model / (1 - only_reference)) if only_reference < 1 else 0.0
        tail = sum(exp(_log_binomial(n - c, b, rest)) for b in range(thresholds[c], n - c + 1))
        total += exp(log_c) * tail
    return total


def size(n: int, tolerance: float) -> tuple[float, float]:
    """(worst probability of PASS at a true loss of exactly the tolerance, the discordance where it occurs)."""
    thresholds = [fewest_to_pass(n, c, tolerance) for c in range(n + 1)]
    rates = sorted({tolerance, *(tolerance + extra for extra in DISCORDANCE if tolerance + extra <= 1)})
    return max((passing_rate(n, thresholds, (rate - tolerance) / 2, (rate + tolerance) / 2), rate) for rate in rates)


def power(n: int, tolerance: float, gap: float, discordance: float, repeats: int = REPEATS) -> dict[str, float]:
    """Share of each verdict over simulated image sets, with a fixed seed."""
    generator = random.Random(f"{SEED}:{n}:{tolerance}:{gap}:{discordance}")
    only_model = (discordance + gap) / 2
    shares = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 0}
    for _ in range(repeats):
        draws = [generator.random() for _ in range(n)]
        b = sum(draw < only_model for draw in draws)
        c = sum(only_model <= draw < discordance for draw in draws)
        shares[_verdict(n, b, c, tolerance)] += 1
    return {verdict: count / repeats for verdict, count in shares.items()}


@cache
def _verdict(n: int, b: int, c: int, tolerance: float) -> str:
    return verdict_of(*tango_interval(PairedCounts(n - b - c, b, c, 0), LEVEL), tolerance)


def _log_binomial(n: int, k: int, p: float) -> float:
    if p <= 0:
        return 0.0 if k == 0 else -inf
    if p >= 1:
        return 0.0 if k == n else -inf
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)


def document() -> str:
    """The page."""
    lines = [
        "# How often the gate errs",
        "",
        "Written by `python -m emt_plugin.gate.calibration`. Every number below is its output.",
        "",
        "A pair passes if the one-sided 95 % lower bound of its gap (Tango 1998) lies above minus the tolerance, and",
        "fails if the upper bound lies below it. That 5 % is asymptotic. What it is for a finite number of images:",
        "",
        "## Size: how often a model that lost exactly the tolerance passes, at worst",
        "",
        "Exact, by enumerating all tables, the worst over 50 rates of discordance from the tolerance itself (no image that",
        "only the model gets right) upwards; in brackets the discordance where it occurs.",
        "",
        f"| images | {' | '.join(f'tolerance {tolerance:g}' for tolerance in TOLERANCES)} |",
        f"|---|{'---|' * len(TOLERANCES)}",
    ]
    for n in SIZES:
        cells = [f"{worst:.4f} ({rate:.3f})" for worst, rate in (size(n, tolerance) for tolerance in TOLERANCES)]
        lines.append(f"| {n} | {' | '.join(cells)} |")
    lines += [
        "",
        "## A reference must beat chance",
        "",
        "Where the reference sees nothing, a model can lose nothing, and two blind classifiers agree. So PASS also needs",
        "the reference's one-sided 95 % lower bound (Wilson 1927) above the larger of 1/K for K labels and the largest",
        "class's share of the images; otherwise the verdict is INCONCLUSIVE and says why. FAIL needs no such thing. A base",
        "compared with itself is held to it too, and so is an earlier run that `emt compare` sets a run beside.",
        "",
        "## Power: what the gate says at tolerance 0.05",
        "",
        f"Simulated, {REPEATS:,} image sets each, seed {SEED}: share of PASS / FAIL / INCONCLUSIVE.",
        "",
        f"| images | discordance | {' | '.join(f'true gap {gap:+g}' for gap in POWER_GAPS)} |",
        f"|---|---|{'---|' * len(POWER_GAPS)}",
    ]
    for n in POWER_SIZES:
        for discordance in POWER_DISCORDANCE:
            cells = []
            for gap in POWER_GAPS:
                shares = power(n, 0.05, gap, discordance)
                cells.append(" / ".join(f"{shares[verdict]:.3f}" for verdict in ("PASS", "FAIL", "INCONCLUSIVE")))
            lines.append(f"| {n} | {discordance:g} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *early_stopping()]) + "\n"


def early_stopping() -> list[str]:
    """The part of the page that is about verdicts taken image by image."""
    lines = [
        "## Image by image: `--emt-early-stop`",
        "",
        "With `--emt-early-stop` a verdict is taken after each image, in the fixed order of the split, and the run stops at",
        "the first image that settles it: bets against “the gap of the whole split is at most minus the tolerance” (PASS",
        "where they make 25 of 1) and against “at least” (FAIL), without replacement (Waudby-Smith & Ramdas 2020, 2024).",
        "Each error has a probability of at most 1/25, whenever one stops, for any split: Ville's inequality, and no",
        "approximation; 20 of 1 would keep the gate's 5 %, and 25 leaves the table below room to show it. The arithmetic is",
        "in whole numbers, rounded down. PASS also needs bets at the same level against “the reference is right no more",
        "often than chance”, and goes on until they are won; what chance is, the labels of all images up to `--emt-limit` say.",
        "",
        "- It says what all images of the split would have said. A fixed number speaks of images like these, so with most of a",
        "  small split measured the two are different questions, and the verdict image by image is the narrower one.",
        "- At `--emt-limit` without a verdict it is INCONCLUSIVE. Tango's test is not used again: at a number of images that",
        "  the results chose, its 5 % would be more. With all of the split measured the gap is known, and only a gap of",
        "  exactly minus the tolerance is INCONCLUSIVE.",
        "- The interval shown is the sequential one, of the whole split's gap: all values that no bet has rejected so far. So",
        "  is p, which lies little below 0.04 where a FAIL is settled: among several pairs Holm says that it may be chance.",
        "- The bets look at images in their order and not at batches: batch size, workers and store change nothing. What was",
        "  measured beyond the image that settles the verdict, to the end of its batch, is stored and no part of it.",
        "- Other scorers and references are compared on the same images by the same bets. Accuracies, steps, failure kinds and",
        "  classes are of fewer images, and their intervals are those of a fixed number: read them as descriptions.",
        "- Two runs may stop at different images: `emt compare`, `--emt-compare` and the history compare the images that both",
        "  have, the first ones of the order, by the same bets.",
        "- It does not go with checkpoints, probes as references, accepted losses, `--emt-repeat` or `--emt-image`.",
        "",
        "How often it errs where the gap of the split is exactly minus the tolerance of 0.05, so that PASS and FAIL are both",
        f"wrong. {simulation.SETS:,} simulated splits in each cell, in brackets the upper 95 % bound (Wilson).",
        "",
        f"| images of the split | {' | '.join(f'discordance {rate:g}' for rate in EDGE_DISCORDANCE)} |",
        f"|---|{'---|' * len(EDGE_DISCORDANCE)}",
    ]
    for size in EDGE_SPLITS:
        cells = []
        for discordance in EDGE_DISCORDANCE:
            found = simulation.cell(size, discordance, -0.05, 0.05)
            cells.append(", ".join(f"{v} {found.rate(v):.4f} ({found.bound(v):.4f})" for v in ("PASS", "FAIL")))
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines += [
        "",
        "How many images it takes at a tolerance of 0.05, and how often it is right. Beside it the number that Tango's test",
        "needs, fixed beforehand, to settle four splits of five.",
        "",
        "| images of the split | discordance | gap | half stop by | nine in ten by | PASS / FAIL / INCONCLUSIVE | fixed |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in SPLITS:
        for discordance in POWER_DISCORDANCE:
            for gap in EARLY_GAPS:
                found = simulation.cell(size, discordance, gap, 0.05)
                shares = " / ".join(f"{found.rate(verdict):.4f}" for verdict in ("PASS", "FAIL", "INCONCLUSIVE"))
                lines.append(
                    f"| {size} | {discordance:g} | {gap:+g} | {found.median} ({100 * found.median / size:.1f} %) "
                    f"| {found.most} | {shares} | {simulation.planned(discordance, gap, 0.05)} |"
                )
    return [
        *lines,
        "",
        "It does not save where the gap lies near minus the tolerance (two points from it, half to nine tenths of 1,000 or",
        "2,000 images are measured), where the split is small, or against a fixed number that was planned for the very gap",
        "and discordance: half of the splits stop by about that number, and of 10,000 one in ten takes twice as many. What it",
        "saves is planning, and most of a large split where the verdict is clear. At a discordance of 0.3 a gap that is five",
        "points from minus the tolerance takes half of the splits of 10,000 more than 6 % of the images; at 0.2 and less it",
        "does not.",
    ]


if __name__ == "__main__":
    from pathlib import Path

    target = Path("docs/gate.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(document(), encoding="utf-8")
    print(target)
