"""Looks at a model in training: what each may spend of alpha, and what is found at it."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, multinomial, norm

from emt_plugin.gate import findings
from emt_plugin.stats import ALPHA, PairedCounts, alpha_at, loss_p, tango_z
from emt_plugin.stats.tango import restricted_loss

CHANCE = {"a": 0.1, "b": 0.1, "c": 0.1, "domain": 0.1}


def outcomes(gained: int, lost: int, both: int, neither: int = 0) -> tuple[list[bool], list[bool]]:
    """Outcomes now and at step 0."""
    now = [True] * gained + [False] * lost + [True] * both + [False] * neither
    base = [False] * gained + [True] * lost + [True] * both + [False] * neither
    return now, base


def test_all_looks_together_spend_alpha_and_no_more() -> None:
    shares = [Fraction(1, look * (look + 1)) for look in range(1, 1001)]
    assert [alpha_at(look) for look in (1, 2, 3)] == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert sum(shares) == 1 - Fraction(1, 1001)
    assert sum(map(alpha_at, range(1, 1001))) == pytest.approx(ALPHA * float(sum(shares)))
    with pytest.raises(ValueError, match="counted from 1"):
        alpha_at(0)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_most_likely_rates_are_those_of_a_search(rest: int, gained: int, lost: int, tolerance: float) -> None:
    counts = PairedCounts(rest, gained, lost, 0)

    def unlikely(rate: float) -> float:
        shares = (rate - tolerance, rate, 1 - 2 * rate + tolerance)
        return -float(multinomial.logpmf((gained, lost, rest), rest + gained + lost, shares))

    found = minimize_scalar(unlikely, bounds=(tolerance, (1 + tolerance) / 2), method="bounded", options={"xatol": 1e-9})
    mine = min(max(tolerance, restricted_loss(counts, -tolerance)), (1 + tolerance) / 2)
    assert unlikely(min(mine + 1e-9, (1 + tolerance) / 2 - 1e-9)) <= found.fun + 1e-4


@pytest.mark.parametrize(("gained", "lost", "rest"), [(0, 6, 20), (2, 9, 19), (5, 5, 10), (0, 0, 12), (9, 1, 4), (0, 12, 0)])
def test_a_tail_is_the_sum_over_all_tables(gained: int, lost: int, rest: int) -> None:
    n, tolerance = gained + lost + rest, 0.1
    counts = PairedCounts(rest, gained, lost, 0)
    q = max(tolerance, restricted_loss(counts, -tolerance))
    whole = 0.0
    for b, c in product(range(n + 1), repeat=2):
        if b + c <= n and c - b >= lost - gained:
            ways = comb(n, b) * comb(n - b, c)
            whole += ways * (q - tolerance) ** b * q**c * (1 - 2 * q + tolerance) ** (n - b - c)
    assert loss_p(counts, tolerance) == pytest.approx(max(whole, norm.cdf(tango_z(counts, -tolerance))), rel=1e-9)


def test_of_losses_alone_the_tail_is_the_binomials_and_much_heavier_than_the_scores() -> None:
    """Of 300 images with a loss of exactly .05 and no gain, 27 or more are lost three times as often as the score says."""
    counts = PairedCounts(273, 0, 27, 0)
    assert loss_p(counts, 0.05) == pytest.approx(binom.sf(26, 300, 0.05), rel=1e-9)
    score = norm.cdf(tango_z(counts, -0.05))
    assert score < 0.001
    assert loss_p(counts, 0.05) > 3 * score


def test_what_failed_at_a_look_is_what_holm_leaves_of_its_alpha() -> None:
    now, base = zip(*(outcomes(0, lost, 200 - lost) for lost in (25, 18, 10, 60)), strict=True)
    names = ["a", "b", "c", "domain"]
    seen = [
        findings(dict(zip(names, now, strict=True)), dict(zip(names, base, strict=True)), "abc", look, 0.05, CHANCE)
        for look in (1, 2)
    ]
    p = {name: seen[0][name].p for name in names}
    # At .025 over three sets a is held to a third of it, and b to a half; at .05 / 6 b no longer fails.
    assert p["a"] < 0.05 / 6 / 3
    assert 0.025 / 3 < p["b"] < 0.025 / 2
    assert p["c"] > 0.025
    assert [[name for name in names if found[name].failed] for found in seen] == [["a", "b"], ["a"]]
    # In the domain nothing fails, however much is lost.
    assert p["domain"] < 1e-9
    assert seen[0]["a"].gap == -0.125
    assert seen[0]["domain"].verdict == "FAIL"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=4), st.integers(1, 30))
def test_no_set_fails_alone_whose_interval_holds_the_tolerance(tables: list[tuple[int, int]], look: int) -> None:
    names = ["a", "b", "c", "d"][: len(tables)]
    pairs = [outcomes(gained, lost, 100) for gained, lost in tables]
    now, base = ({name: pair[side] for name, pair in zip(names, pairs, strict=True)} for side in (0, 1))
    found = findings(now, base, names, look, 0.05, dict.fromkeys(names, 0.1))
    if any(each.failed for each in found.values()):
        assert min(each.high for each in found.values()) < -0.05
    for each in found.values():
        assert each.low <= each.gap <= each.high


def test_intervals_widen_with_the_looks_and_the_sets() -> None:
    now, base = outcomes(4, 14, 182)
    at = {
        (look, sets): findings(dict.fromkeys(sets, now), dict.fromkeys(sets, base), sets, look, 0.05, CHANCE)["a"]
        for look in (1, 5)
        for sets in ("a", "abc")
    }
    widths = {key: found.high - found.low for key, found in at.items()}
    assert widths[1, "a"] < widths[5, "a"] < widths[5, "abc"]
    assert widths[1, "a"] < widths[1, "abc"] < widths[5, "abc"]
