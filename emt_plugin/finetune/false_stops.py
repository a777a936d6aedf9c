"""How often a callback that looks at a model in training stops it: ``python -m emt_plugin.finetune.false_stops``.

Writes the tables of docs/training.md. Simulated with a fixed seed, on numpy; nothing that takes a verdict imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from emt_plugin.report.writers.marks import put_between
from emt_plugin.stats import ALPHA, LEVEL, PairedCounts, alpha_at, loss_p, tango_z, wilson_interval

COMMAND = "python -m emt_plugin.finetune.false_stops"
RUNS = 5000
SEED = 19980415
IMAGES = 300
TOLERANCE = 0.05
# Share of the images of which a look has what the look before had of them.
KEPT = (0.0, 0.9)
DISCORDANCE = (0.05, 0.1, 0.2, 0.3)
LOOKS = (4, 20, 100)
SETS = (1, 4)
PValue = Callable[[PairedCounts, float], float]
# Where nothing is lost it takes much discordance for a stop.
HEALTHY = (0.0, (0.3,))
EDGE = (-TOLERANCE, DISCORDANCE)
POWER_GAPS = (-0.08, -0.10, -0.15, -0.20, -0.30)


@dataclass(frozen=True)
class Training:
    """Runs of one kind, in which every image set has lost the same from the first look on.

    Attributes:
        gap: of each set, a fraction.
        discordance: share of images on which one of now and step 0 is right.
        looks: how often it is looked at.
        sets: image sets that may stop it.
        images: of each.
        kept: share of images on which a look finds what the look before found; the others are drawn anew.
    """

    gap: float
    discordance: float
    looks: int
    sets: int = 1
    images: int = IMAGES
    kept: float = 0.9


def stopped_at(training: Training, alpha: Callable[[int], float] = alpha_at, p: PValue = loss_p, runs: int = RUNS) -> Any:
    """The look at which each of some runs was stopped; ``looks`` + 1 for never.

    Args:
        training: of what kind they are.
        alpha: what a look may spend.
        p: the p-value of one set's counts at a tolerance.
        runs: how many.
    """
    found = np.full(runs, training.looks + 1)
    for look, counts in enumerate(_tables(training, runs), 1):
        found[(found > training.looks) & (smallest_p(counts, training.images, p) < alpha(look))] = look
    return found


def _tables(training: Training, runs: int) -> Iterator[Any]:
    """For each look the images that only the model of that look, and only that of step 0, gets right: runs x sets x 2."""
    key = [training.images, round(1e6 * (1 + training.gap)), round(1e6 * training.discordance), round(1e6 * training.kept)]
    generator = np.random.default_rng([SEED, training.looks, training.sets, *key])
    gained, lost = (training.discordance + training.gap) / 2, (training.discordance - training.gap) / 2
    shares = np.maximum([gained, lost, 1 - gained - lost], 0.0)
    counts = generator.multinomial(training.images, shares, (runs, training.sets))
    for _ in range(training.looks):
        yield counts[..., :2]
        stays = generator.binomial(counts, training.kept)
        counts = stays + generator.multinomial(training.images - stays.sum(-1), shares)


def smallest_p(counts: Any, images: int, p: PValue = loss_p) -> Any:
    """The smallest p-value over each run's sets, adjusted by Holm: times the number of sets.

    Args:
        counts: of images that only one of now and step 0 gets right, runs x sets x 2.
        images: of each set.
        p: the p-value of one set's counts at a tolerance.
    """
    distinct, places = np.unique(counts.reshape(-1, 2), axis=0, return_inverse=True)
    p_values = np.array([_p(p, images, *map(int, table)) for table in distinct])[places.reshape(-1)].reshape(counts.shape[:-1])
    return np.minimum(1.0, counts.shape[1] * p_values.min(axis=1))


def score_p(counts: PairedCounts, tolerance: float) -> float:
    """Tango's score by the normal tail, which is not the rule."""
    return NormalDist().cdf(tango_z(counts, -tolerance))


@cache
def _p(p: PValue, images: int, gained: int, lost: int) -> float:
    return p(PairedCounts(images - gained - lost, gained, lost, 0), TOLERANCE)


def tables() -> str:
    """The tables of docs/training.md."""
    lines = [
        f"Share of runs that are stopped though no set has lost more than the tolerance of {TOLERANCE:g}: {RUNS:,} simulated",
        f"runs in each cell, seed {SEED}, {IMAGES} images of each set, in brackets the upper 95 % bound (Wilson). “Anew” draws",
        "all images anew at each look, “alike” one in ten of them, as a slow training would. Beside them what it would be by",
        "the score alone (anew), and with every look at the full 5 % (alike), each with Holm over the sets.",
        "",
        "| true gap | sets | looks | discordance | anew | alike | score alone | full alpha |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        _row(gap, sets, looks, discordance)
        for gap, rates in (HEALTHY, EDGE)
        for sets in SETS
        for looks in LOOKS
        for discordance in rates
    ]
    lines += [
        "",
        "What it finds: share of runs stopped by look 1, 4 and 20, of runs that have lost so much on each of four sets since",
        "the first look (alike).",
        "",
        f"| discordance | {' | '.join(f'true gap {gap:+g}' for gap in POWER_GAPS)} |",
        f"|---|{'---|' * len(POWER_GAPS)}",
    ]
    for discordance in (0.1, 0.2, 0.3):
        cells = []
        for gap in POWER_GAPS:
            if -gap > discordance:
                cells.append("–")
                continue
            found = stopped_at(Training(gap, discordance, 20, 4))
            cells.append(" / ".join(f"{float((found <= look).mean()):.3f}" for look in (1, 4, 20)))
        lines.append(f"| {discordance:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(gap: float, sets: int, looks: int, discordance: float) -> str:
    anew, alike = (Training(gap, discordance, looks, sets, kept=kept) for kept in KEPT)
    spent = [int((stopped_at(kind) <= looks).sum()) for kind in (anew, alike)]
    score = float((stopped_at(anew, p=score_p) <= looks).mean())
    full = float((stopped_at(alike, lambda look: ALPHA) <= looks).mean())
    cells = [f"{count / RUNS:.4f} ({wilson_interval(count, RUNS, LEVEL).high:.4f})" for count in spent]
    return f"| {gap:+g} | {sets} | {looks} | {discordance:g} | {' | '.join(cells)} | {score:.4f} | {full:.4f} |"


if __name__ == "__main__":
    target = Path("docs/training.md")
    put_between(target, "false-stops", COMMAND, tables())
    print(target)
