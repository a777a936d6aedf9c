"""Where accuracy goes, on tables that were worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from emt_plugin.analysis.steps import ORDER, Outcome, largest_loss, steps
from emt_plugin.report.words.verdicts import where_it_falls
from emt_plugin.stats import PairedCounts, tango_interval, wilson_interval
from tests.unit.test_records import make_pair


def right(count: int, n: int = 100) -> list[bool]:
    return [True] * count + [False] * (n - count)


def way(*counts: tuple[str, int]) -> list[Outcome]:
    return [Outcome(name, right(count)) for name, count in counts]


def sentence(*counts: tuple[str, int]) -> str:
    outcomes = way(*counts)
    return where_it_falls(replace(make_pair(), steps=steps(outcomes), largest_loss=largest_loss(outcomes), n=100))


def test_changes_are_paired_and_have_tangos_interval() -> None:
    encoder = [True, True, True, False, False, True, True, False]
    answer = [True, False, True, True, False, False, False, False]
    first, second = steps([Outcome("answer", answer, "a note"), Outcome("encoder", encoder)])
    assert (first.name, first.correct, first.change) == ("encoder", 5, 0.0)
    assert (second.name, second.correct, second.note) == ("answer", 3, "a note")
    assert second.change == pytest.approx(-2 / 8)
    # both 2, only the answer 1, only the encoder 3, neither 2
    assert (second.low, second.high) == tuple(tango_interval(PairedCounts(2, 1, 3, 2), 0.9))


def test_they_come_in_the_order_of_the_way() -> None:
    assert [step.name for step in steps(way(*((name, 50) for name in reversed(ORDER))))] == list(ORDER)


@pytest.mark.parametrize(
    ("counts", "between", "share"),
    [
        ([("encoder", 90), ("likelihood", 88), ("answer", 50), ("clean answer", 48)], ("likelihood", "answer"), 38 / 42),
        ([("encoder", 90), ("answer", 88), ("clean answer", 40)], ("answer", "clean answer"), 48 / 50),
        ([("encoder", 90), ("vision probe", 85), ("projector probe", 60), ("likelihood", 58)],
         ("vision probe", "projector probe"), 25 / 32),
        # The vision probe reads less than the language model does: it is passed over.
        ([("encoder", 90), ("vision probe", 40), ("projector probe", 80), ("likelihood", 50)],
         ("projector probe", "likelihood"), 30 / 40),
        # Both probes do.
        ([("encoder", 90), ("vision probe", 40), ("projector probe", 45), ("likelihood", 50)], ("encoder", "likelihood"), 1),
        # A later step gains some of it back.
        ([("encoder", 90), ("likelihood", 50), ("answer", 60)], ("encoder", "likelihood"), 40 / 30),
    ],
)  # fmt: skip
def test_where_most_is_lost(counts: list[tuple[str, int]], between: tuple[str, str], share: float) -> None:
    found = largest_loss(way(*counts))
    assert found is not None
    assert (found.before, found.step) == between
    assert found.share == pytest.approx(share)
    assert found.whole == pytest.approx((dict(counts)[found.last] - dict(counts)[found.first]) / 100)
    lost = dict(counts)[between[0]] - dict(counts)[between[1]]
    assert found.change == pytest.approx(-lost / 100)
    assert (found.low, found.high) == pytest.approx(tango_interval(PairedCounts(60, 0, lost, 40 - lost), 0.9))


@pytest.mark.parametrize("counts", [[("encoder", 80), ("answer", 90)], [("encoder", 80), ("answer", 80)], [("answer", 80)]])
def test_nothing_is_lost(counts: list[tuple[str, int]]) -> None:
    assert largest_loss(way(*counts)) is None


def test_the_sentence() -> None:
    assert sentence(("encoder", 90), ("likelihood", 88), ("answer", 50)) == (
        "Most of the fall is in saying it: the language model ranks the label first and answers something else: "
        "−38.0 [−46.2, −30.4] of −40.0 points from encoder to answer."
    )
    assert sentence(("encoder", 90), ("vision probe", 80), ("projector probe", 71), ("likelihood", 62)) == (
        "The fall is in several places: −28.0 points from encoder to likelihood; the largest part before the projector, "
        "whose input holds less than the encoder's pooled output: −10.0 [−16.0, −6.1]."
    )
    assert sentence(("encoder", 80), ("likelihood", 80), ("answer", 85)) == "Accuracy does not fall from encoder to answer."
    assert sentence(("encoder", 90), ("answer", 88), ("clean answer", 50)) == (
        "Most of the fall is in form: the class is named in a sentence that says more or less than was asked: "
        "−38.0 [−46.2, −30.4] of −40.0 points from encoder to clean answer."
    )


@pytest.mark.parametrize(
    "counts",
    [
        [("encoder", 80)],
        [("encoder", 80), ("answer", 85)],
        [("encoder", 85), ("answer", 75)],
        [("encoder", 85), ("answer", 75), ("clean answer", 75)],
        [("encoder", 85), ("likelihood", 75)],
        [("encoder", 85), ("answer", 75), ("clean answer", 74)],
    ],
)
def test_between_two_steps_there_is_nothing_to_tell(counts: list[tuple[str, int]]) -> None:
    assert sentence(*counts) == ""


def test_without_an_encoder_the_way_begins_where_a_probe_is_strong_enough() -> None:
    said = sentence(("vision probe", 60), ("projector probe", 70), ("likelihood", 65), ("answer", 50))
    assert said.endswith("−15.0 [−21.8, −10.1] of −20.0 points from projector probe to answer.")
    assert sentence(("vision probe", 40), ("likelihood", 65), ("answer", 50)) == (
        "All of the fall is in saying it: the language model ranks the label first and answers something else: "
        "−15.0 [−21.8, −10.1] points from likelihood to answer."
    )


def test_what_may_be_chance_is_said_to_be() -> None:
    encoder, answer = [True] * 50 + [False] * 50, [False] * 6 + [True] * 44 + [True] * 4 + [False] * 46
    outcomes = [Outcome("encoder", encoder), Outcome("likelihood", encoder), Outcome("answer", answer)]
    pair = replace(make_pair(), steps=steps(outcomes), largest_loss=largest_loss(outcomes), n=100)
    assert where_it_falls(pair).endswith("of −2.0 points from encoder to answer. That may be chance.")


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (1, 10), (37, 314), (500, 1000), (1, 1), (0, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_against_scipy(count: int, n: int, level: float) -> None:
    theirs = binomtest(count, n).proportion_ci(level, method="wilson")
    assert wilson_interval(count, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    # z = 1.959964, n = 10, share 0.1: centre 0.2921459 / 1.3841459, half 0.2637... (Newcombe 1998, method 3)
    assert wilson_interval(1, 10, 0.95) == pytest.approx((0.017876, 0.404150), abs=1e-6)


@pytest.mark.parametrize(("count", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="a share needs"):
        wilson_interval(count, n, 0.9)
