"""Tango's test, the verdict and Holm, against published tables and independent computation."""

from __future__ import annotations

from itertools import product
from math import comb, inf, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest

from emt_plugin.gate import Reference, Tolerance, chance_of, compare, compare_in_order, with_holm, with_itself
from emt_plugin.gate.calibration import fewest_to_pass, passing_rate, power, size
from emt_plugin.gate.comparison import Comparison, images_needed
from emt_plugin.stats import PairedCounts, holm, tango_interval, tango_z

# (both, only first, only second, neither), level, interval, source.
TABLES = [
    ((4, 9, 3, 16), 0.95, -0.02709, 0.38970, "ratesci, test3.R"),
    ((43, 0, 1, 0), 0.90, -0.09566, 0.03652, "ratesci"),
    ((59, 6, 16, 80), 0.95, -0.12402, -0.00543, "contingencytables, chapter 8, Cavo"),
    ((1, 1, 7, 12), 0.95, -0.51723, -0.02600, "Fagerland 2014"),
    ((53, 16, 8, 9), 0.95, -0.01966, 0.20691, "Agresti & Min 2005"),
    ((0, 3, 0, 0), 0.95, -0.12299, 1.0, "contingencytables"),
    ((36, 12, 2, 0), 0.95, 0.06111, 0.34471, "Newcombe 1998's data"),
]


@pytest.mark.parametrize(("table", "level", "low", "high", "source"), TABLES)
def test_interval_of_published_tables(table: tuple[int, ...], level: float, low: float, high: float, source: str) -> None:
    found = tango_interval(PairedCounts(*table), level)
    assert found == pytest.approx((low, high), abs=6e-6), source


def test_statistic_of_a_published_non_inferiority_test() -> None:
    z = tango_z(PairedCounts(43, 0, 1, 0), -0.1)
    assert z == pytest.approx(1.70856, abs=5e-6)
    assert 1 - NormalDist().cdf(z) == pytest.approx(0.04377, abs=5e-6)


def test_at_gap_zero_it_is_mcnemar() -> None:
    assert tango_z(PairedCounts(59, 6, 16, 80), 0) == pytest.approx((6 - 16) / sqrt(6 + 16), abs=1e-12)


counts = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0).map(lambda cells: PairedCounts(*cells))


@given(counts, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_interval_inverts_the_test(table: PairedCounts, level: float) -> None:
    z = NormalDist().inv_cdf((1 + level) / 2)
    low, high = tango_interval(table, level)
    assert -1 <= low <= table.gap <= high <= 1
    for end, wanted in ((low, z), (high, -z)):
        if abs(end) < 1 - 1e-9 and end != table.gap:
            assert tango_z(table, end) == pytest.approx(wanted, abs=1e-6)


@given(counts)
def test_swapping_model_and_reference_mirrors_the_interval(table: PairedCounts) -> None:
    low, high = tango_interval(table, 0.9)
    mirrored = PairedCounts(table.both, table.only_reference, table.only_model, table.neither)
    assert tango_interval(mirrored, 0.9) == pytest.approx((-high, -low), abs=1e-9)


@given(counts.filter(lambda table: table.only_reference > 0 and table.only_model > 0))
def test_the_bound_is_where_an_independent_root_finder_puts_it(table: PairedCounts) -> None:
    z = NormalDist().inv_cdf(0.95)
    root = brentq(lambda gap: tango_z(table, gap) - z, -1 + 1e-9, table.gap, xtol=1e-12)
    assert tango_interval(table, 0.9).low == pytest.approx(root, abs=1e-8)


def test_no_images_or_a_level_out_of_range_is_refused() -> None:
    for table, level in ((PairedCounts(0, 0, 0, 0), 0.9), (PairedCounts(1, 0, 0, 0), 1.0)):
        with pytest.raises(ValueError, match="needs images"):
            tango_interval(table, level)


def outcomes(both: int, only_model: int, only_reference: int, neither: int) -> tuple[list[bool], list[bool]]:
    model = [True] * both + [True] * only_model + [False] * only_reference + [False] * neither
    reference = [True] * both + [False] * only_model + [True] * only_reference + [False] * neither
    return model, reference


def compared(table: tuple[int, int, int, int], tolerance: float) -> Comparison:
    return compare(*outcomes(*table), Reference("encoder", "e"), Tolerance(tolerance, "test", tolerance))


def test_counts_keep_who_was_right() -> None:
    comparison = compared((5, 2, 3, 1), 0.05)
    assert (comparison.n11, comparison.n10, comparison.n01, comparison.n00) == (5, 2, 3, 1)
    assert comparison.gap == pytest.approx(-1 / 11)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare([True], [True, False], Reference("encoder", "e"), Tolerance(0.05, "test", 0.05))


@pytest.mark.parametrize(
    ("table", "tolerance", "verdict"),
    [
        ((900, 20, 20, 60), 0.05, "PASS"),
        ((700, 10, 200, 90), 0.05, "FAIL"),
        ((80, 5, 9, 6), 0.05, "INCONCLUSIVE"),
        ((43, 0, 1, 0), 0.1, "PASS"),  # z 1.7086 > 1.6449
        ((43, 0, 1, 0), 0.09, "INCONCLUSIVE"),
        ((0, 0, 10, 0), 0.05, "FAIL"),  # nothing left
        ((10, 0, 0, 0), 0.05, "INCONCLUSIVE"),  # ten images show nothing
        ((1000, 0, 0, 0), 0.05, "PASS"),
    ],
)
def test_verdicts(table: tuple[int, int, int, int], tolerance: float, verdict: str) -> None:
    assert compared(table, tolerance).verdict == verdict


@given(counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_the_verdict_is_that_of_the_one_sided_tests(table: PairedCounts, tolerance: float) -> None:
    comparison = compared((int(table.both), int(table.only_model), int(table.only_reference), int(table.neither)), tolerance)
    z, bound = tango_z(table, -tolerance), NormalDist().inv_cdf(0.95)
    if abs(abs(z) - bound) > 1e-6:
        assert comparison.verdict == ("PASS" if z > bound else "FAIL" if z < -bound else "INCONCLUSIVE")
    assert comparison.p == pytest.approx(NormalDist().cdf(z))


def test_images_needed_settles_and_one_fewer_does_not() -> None:
    table = PairedCounts(80, 5, 9, 6)
    needed = images_needed(table, 0.05)
    assert needed is not None

    def verdict(n: int) -> str:
        cells = [cell * n / table.n for cell in (80, 5, 9, 6)]
        low, high = tango_interval(PairedCounts(*cells), 0.9)
        return "settled" if low > -0.05 or high < -0.05 else "open"

    assert (verdict(needed - 1), verdict(needed)) == ("open", "settled")


def test_a_gap_on_the_tolerance_is_never_settled() -> None:
    assert images_needed(PairedCounts(85, 5, 10, 0), 0.05) is None


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_fail_that_does_not_survive_holm_may_be_chance_and_stays_a_fail() -> None:
    alone = compared((160, 4, 26, 10), 0.05)
    assert alone.verdict == "FAIL"
    among = with_holm([alone] + [compared((900, 20, 20, 60), 0.05)] * 9)
    assert among[0].verdict == "FAIL"
    assert among[0].p_holm == pytest.approx(min(1, 10 * alone.p))
    assert among[0].may_be_chance is (10 * alone.p >= 0.05)
    assert not with_holm([alone])[0].may_be_chance


def plain_passing_rate(n: int, tolerance: float, only_model: float, only_reference: float) -> float:
    """Every table, one by one, with the verdict's own rule."""
    total = 0.0
    for b, c in product(range(n + 1), repeat=2):
        if b + c <= n and tango_interval(PairedCounts(n - b - c, b, c, 0), 0.9).low > -tolerance:
            rest = max(1 - only_model - only_reference, 0.0)
            total += comb(n, b) * comb(n - b, c) * only_model**b * only_reference**c * rest ** (n - b - c)
    return total


@pytest.mark.parametrize(("n", "tolerance", "discordance"), [(20, 0.1, 0.1), (30, 0.1, 0.3), (25, 0.2, 0.5)])
def test_exact_rate_equals_the_plain_enumeration(n: int, tolerance: float, discordance: float) -> None:
    rates = ((discordance - tolerance) / 2, (discordance + tolerance) / 2)
    thresholds = [fewest_to_pass(n, c, tolerance) for c in range(n + 1)]
    assert passing_rate(n, thresholds, *rates) == pytest.approx(plain_passing_rate(n, tolerance, *rates), abs=1e-9)


def test_size_and_power_of_a_planned_study() -> None:
    # Exact enumeration at n=507, tolerance .05, discordance .2: power .8031, size .0494.
    thresholds = [fewest_to_pass(507, c, 0.05) for c in range(508)]
    assert passing_rate(507, thresholds, 0.1, 0.1) == pytest.approx(0.8031, abs=5e-5)
    assert passing_rate(507, thresholds, 0.075, 0.125) == pytest.approx(0.0494, abs=5e-5)
    assert power(507, 0.05, 0.0, 0.2)["PASS"] == pytest.approx(0.8031, abs=0.03)


def test_worst_size_stays_near_the_nominal_five_percent() -> None:
    worst, rate = size(200, 0.05)
    assert 0.04 < worst < 0.06
    assert 0.05 <= rate <= 1


def test_statistic_without_any_deviation() -> None:
    assert tango_z(PairedCounts(0, 0, 5, 0), -1.0) == 0.0
    assert tango_z(PairedCounts(5, 0, 0, 0), -1.0) == inf


def blind(right: int, n: int = 300, model: int | None = None, chance: float = 0.1) -> Comparison:
    """A model and a reference that are right on the same images, or the model on fewer of them."""
    reference = [index < right for index in range(n)]
    outcomes = [index < (right if model is None else model) for index in range(n)]
    return compare(outcomes, reference, Reference("encoder", "e"), Tolerance(0.05, "default", 0.05), chance=chance)


def test_two_that_see_nothing_do_not_pass() -> None:
    # 300 images of ten classes, all of which look the same: one class of ten is right by accident.
    found = blind(34)
    assert (found.gap, found.verdict, found.n_needed) == (0, "INCONCLUSIVE", None)
    assert found.nothing_to_forget
    assert blind(290).verdict == "PASS"


def test_a_reference_beats_chance_by_wilsons_lower_bound() -> None:
    bound = {right: binomtest(right, 300).proportion_ci(0.9, method="wilson").low for right in range(1, 300)}
    for right, low in bound.items():
        assert blind(right).verdict == ("PASS" if low > 0.1 else "INCONCLUSIVE"), right


def test_a_fail_needs_no_reference_that_beats_chance() -> None:
    assert blind(100, model=20, chance=0.5).verdict == "FAIL"


def test_nothing_to_forget_at_any_tolerance_and_against_itself() -> None:
    found = blind(34)
    assert found.verdict_at(0.5) == "INCONCLUSIVE"
    assert with_itself(found).verdict == "INCONCLUSIVE"
    assert with_itself(blind(290)).verdict == "PASS"


@pytest.mark.parametrize(
    ("labels", "classes", "chance"),
    [
        ([0, 1, 2, 3], 4, 0.25),
        ([0, 0, 0, 1], 4, 0.75),
        ([0, 1], 10, 0.5),
        ([0, 1] * 50, 4, 0.5),
        (list(range(10)) * 3, 20, 0.1),
    ],
)
def test_chance_is_one_of_k_or_the_largest_class(labels: list[int], classes: int, chance: float) -> None:
    assert chance_of(labels, classes) == chance


def test_a_record_that_does_not_know_chance_keeps_its_verdict() -> None:
    assert compare([True] * 9, [True] * 9, Reference("encoder", "e"), Tolerance(0.9, "x", 0.9)).verdict == "PASS"


def in_order(model: list[bool], reference: list[bool], of: int, chance: float | None = None) -> Comparison:
    return compare_in_order(model, reference, Reference("encoder", "e"), Tolerance(0.05, "x", 0.05), of, chance=chance)


def test_image_by_image_a_verdict_is_of_the_whole_split() -> None:
    """Of 100 images all are seen: the gap is what it is, and nothing is estimated."""
    right = [True] * 100
    for lost, verdict in ((0, "PASS"), (4, "PASS"), (5, "INCONCLUSIVE"), (6, "FAIL"), (50, "FAIL")):
        found = in_order([index >= lost for index in range(100)][::-1], right, 100)
        assert (found.verdict, found.low, found.high) == (verdict, -lost / 100, -lost / 100), lost
        assert found.sequential is not None
        assert (found.sequential.stopped_at, found.sequential.of) == (100, 100)


def test_image_by_image_the_fixed_test_is_not_used_again() -> None:
    """40 losses among 400 of 10,000 images: settled by Tango's test at a fixed number, and not whenever one stops."""
    model = [index % 10 > 0 for index in range(400)]
    fixed = compare(model, [True] * 400, Reference("encoder", "e"), Tolerance(0.05, "x", 0.05))
    found = in_order(model[:150], [True] * 150, 10_000)
    assert fixed.verdict == "FAIL"
    assert (found.verdict, found.n_needed) == ("INCONCLUSIVE", None)
    assert found.low < -0.05 < found.high
    assert in_order(model, [True] * 400, 10_000).verdict == "FAIL"


def test_image_by_image_pass_needs_a_reference_that_beats_chance() -> None:
    guess = [index % 2 == 0 for index in range(300)]
    found = in_order(guess, guess, 1000, chance=0.5)
    assert (found.verdict, found.nothing_to_forget) == ("INCONCLUSIVE", True)
    assert found.verdict_at(0.5) == "INCONCLUSIVE"
    assert in_order(guess, guess, 1000, chance=0.1).verdict == "PASS"
    assert in_order([False] * 300, guess, 1000, chance=0.5).verdict == "FAIL"
