"""The sequential test of a gap: hand-worked bets, exact error rates of small populations, and a plain loop in fractions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.stats import SequentialGap, sequential_interval
from emt_plugin.stats.sequential import ENOUGH, SHARES, UNIT, WHOLE, Wealth, bets, exact

BETS = [Fraction(share, WHOLE) for share in SHARES]


def wealth_in_fractions(values: Sequence[int], most: int, size: int) -> list[Fraction | None]:
    """After each value the wealth, by the formula of means; None once the null is refuted.

    Values are scaled to differences d = u - 1 of mean m under the null, and the bet is lambda = f / (1 + m).
    """
    shares: list[Fraction] = [Fraction(1)] * len(BETS)
    found: list[Fraction | None] = []
    total = 0
    for seen, value in enumerate(values):
        mean = Fraction(most - total, size - seen) - 1
        total += value
        if total > most:
            return [*found, *[None] * (len(values) - seen)]
        if mean > -1:
            shares = [
                wealth * (1 + share / (1 + mean) * (value - 1 - mean)) for wealth, share in zip(shares, BETS, strict=True)
            ]
        found.append(sum(shares) / len(shares))
    return found


def plain_verdict(
    differences: Sequence[int], references: Sequence[bool], size: int, tolerance: Fraction, chance: Fraction
) -> tuple[str | None, int]:
    """(side, image at which it stops) by the plainest loop; the side is None where nothing settles it."""
    most = {
        "above": ([1 + d for d in differences], size + floor(-tolerance * size)),
        "below": ([1 - d for d in differences], size + floor(tolerance * size)),
        "sees": ([2 * int(right) for right in references], 2 * floor(chance * size)),
    }
    when = {}
    for name, (values, allowed) in most.items():
        wealth = wealth_in_fractions(values, allowed, size)
        when[name] = next((at for at, made in enumerate(wealth, 1) if made is None or made >= 25), None)
    above, below, sees = when["above"], when["below"], when["sees"]
    if below is not None and (above is None or below < above):
        return "below", below
    if above is not None:
        return ("above", max(above, sees)) if sees is not None else ("above", len(differences))
    return None, len(differences)


def test_a_bet_worked_by_hand() -> None:
    """Ten images of which the null allows a sum of 9: each value of 1 is what the null expects on average at most."""
    wealth = Wealth(9, 10)
    # 1 - f + f * 2 * 10 / 9 = 1 + 11 f / 9, and the shares are 3.21 together: 8 + 11 * 3.21 / 9.
    assert sum(BETS) == Fraction(321, 100)
    wealth.see(2)
    assert wealth.highest / UNIT == pytest.approx(8 + 11 * 3.21 / 9, rel=1e-15)
    # 9 are left and 7 allowed: a value of 0 leaves 1 - f of each share.
    wealth.see(0)
    left = sum((1 + 11 * float(share) / 9) * (1 - float(share)) for share in BETS)
    assert sum(wealth._shares) / UNIT == pytest.approx(left, rel=1e-15)
    assert wealth.p == pytest.approx(8 / (8 + 11 * 3.21 / 9), rel=1e-15)


def test_clear_cases_by_hand() -> None:
    """With no discordance only the drift counts: K = sum of (1 - f + f / (1 - 0.05...))^t, and all right needs about 90."""
    gap = SequentialGap(10_000, 0.05)
    at = next(count for count in range(1, 10_000) if gap.see(True, True))
    assert (gap.settled.side, gap.settled.stopped_at) == ("above", at)
    by_formula = next(
        count for count in range(1, 10_000) if sum((1 + float(f) * 0.05 / 0.95) ** count for f in BETS) / 8 >= ENOUGH
    )
    # Without replacement a little sooner than with it.
    assert by_formula - 3 <= at <= by_formula


@given(st.integers(1, 6), st.data())
def test_the_mean_wealth_never_exceeds_one_under_the_null(size: int, data: st.DataObject) -> None:
    """By enumerating every order of a population that the null allows, at every time and so at any stopping time by steps."""
    population = data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=size, max_size=size))
    most = sum(population) + data.draw(st.integers(0, 3))
    orders = sorted(set(permutations(population)))
    for count in range(1, size + 1):
        made = [wealth_in_fractions(order[:count], most, size)[-1] for order in orders]
        assert None not in made
        mean = sum(wealth for wealth in made if wealth is not None) / len(orders)
        assert mean <= 1
        if most == sum(population) and count < size and all(most > sum(order[:count]) for order in orders):
            assert mean == 1, "a fair game at the edge of the null"


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=6))
def test_ever_reaching_a_wealth_is_as_rare_as_ville_says(population: list[int]) -> None:
    """For any level, not just 1/25: the share of orders whose highest wealth reaches k is at most 1/k."""
    orders = list(permutations(population))
    highest = [bets(order, sum(population), len(population)).highest for order in orders]
    for level in {Fraction(wealth, UNIT * len(SHARES)) for wealth in highest}:
        assert Fraction(sum(Fraction(w, UNIT * len(SHARES)) >= level for w in highest), len(orders)) <= 1 / level


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=60), st.integers(-2, 130), st.integers(0, 200))
def test_whole_numbers_are_the_fractions_rounded_down(values: list[int], most: int, more: int) -> None:
    size = len(values) + more
    wanted = wealth_in_fractions(values, most, size)
    wealth = Wealth(most, size)
    for value, exactly in zip(values, wanted, strict=True):
        wealth.see(value)
        if exactly is None:
            assert wealth.refuted
            continue
        assert not wealth.refuted
        made = Fraction(sum(wealth._shares), UNIT * len(SHARES))
        assert made <= exactly
        # Each image rounds by less than a unit, and later images can make that grow no faster than the largest share.
        assert float(exactly - made) <= 1e-25 * max(1.0, float(exactly))


@given(st.integers(5, 40), st.floats(0.01, 0.9), st.integers(0, 2**32), st.sampled_from([0.02, 0.05, 0.1, 0.25]))
def test_the_verdict_is_the_plain_loops(size: int, chance: float, seed: int, tolerance: float) -> None:
    generator = random.Random(seed)
    rates = [generator.random() for _ in range(2)]
    pairs = [(generator.random() < rates[0], generator.random() < rates[1]) for _ in range(size)]
    gap = SequentialGap(size, tolerance, chance)
    for pair in pairs:
        if gap.see(*pair):
            break
    differences = [int(model) - int(reference) for model, reference in pairs]
    side, at = plain_verdict(differences, [r for _, r in pairs], size, exact(tolerance), exact(chance))
    assert (gap.settled.side, gap.settled.stopped_at) == (side, at)


differences = st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=1, max_size=60)


@given(differences, st.integers(0, 100), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_the_interval_is_the_tests_turned_round(seen: list[int], more: int, tolerance: float) -> None:
    size = len(seen) + more
    low, high = sequential_interval(seen, size)
    assert -1 <= low <= high <= 1
    gap = SequentialGap(size, tolerance)
    for difference in seen:
        if gap.see(difference >= 0, difference <= 0):
            break
    if gap.settled.stopped_at == len(seen):
        assert (low > -tolerance, high < -tolerance) == (gap.settled.side == "above", gap.settled.side == "below")


@given(differences, st.integers(0, 100))
def test_the_interval_only_ever_narrows_and_mirrors(seen: list[int], more: int) -> None:
    size = len(seen) + more
    low, high = sequential_interval(seen, size)
    if len(seen) > 1:
        before = sequential_interval(seen[:-1], size)
        assert before.low <= low or low == high
        assert high <= before.high or low == high
    assert sequential_interval([-difference for difference in seen], size) == pytest.approx((-high, -low), abs=1e-12)


@given(differences)
def test_all_of_the_population_is_no_estimate(seen: list[int]) -> None:
    gap = SequentialGap(len(seen), 0.1)
    for difference in seen:
        if gap.see(difference >= 0, difference <= 0):
            break
    if gap.settled.side is None:
        assert Fraction(sum(seen), len(seen)) == Fraction(-1, 10)
        assert sequential_interval(seen, len(seen)) == (-0.1, -0.1)


def test_a_reference_that_may_be_chance_goes_on() -> None:
    """A model and a reference that agree on every image pass at once, but not while both may be guessing among two."""
    generator = random.Random(1)
    blind = SequentialGap(1000, 0.05, 0.5)
    while blind.settled.stopped_at < 1000 and not blind.is_final:
        right = generator.random() < 0.5
        blind.see(right, right)
    assert (blind.settled.side, blind.settled.reference_beats, blind.settled.stopped_at) == ("above", False, 1000)
    seeing = SequentialGap(1000, 0.05, 0.5)
    at = next(count for count in range(1, 1001) if seeing.see(True, True))
    assert seeing.settled.reference_beats
    assert at < 100


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 0, 1 or 2"):
        Wealth(5, 10).see(3)
    with pytest.raises(ValueError, match="an interval needs images"):
        sequential_interval([], 10)
    gap = SequentialGap(2, 0.5)
    gap.see(True, False)
    with pytest.raises(ValueError, match="settled at image 1"):
        gap.see(True, False)
