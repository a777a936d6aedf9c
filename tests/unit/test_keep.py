"""The checkpoint to keep, and paired changes with their means."""

from __future__ import annotations

from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from emt_plugin.analysis import Change, checkpoint_to_keep, mean_change, metrics, paired_change
from emt_plugin.analysis.trajectory import Moment, StateOutcomes, classes_gone, trajectory
from emt_plugin.stats import PairedCounts, benjamini_hochberg, mcnemar, tango_interval

VERDICTS = st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", None])
STATES = st.lists(st.fixed_dictionaries({"in": VERDICTS, "out": VERDICTS, "far": VERDICTS}), min_size=1, max_size=8)


@given(STATES)
def test_the_plainest_loop_keeps_the_same(states: list[dict]) -> None:
    found = checkpoint_to_keep(states, ["in"])
    kept = 0
    for index, state in enumerate(states):
        if index and (state["out"] != "PASS" or state["far"] != "PASS"):
            assert found.stopped_at == index
            break
        kept = index
    else:
        assert found.stopped_at is None
    assert found.kept == kept


def test_what_was_trained_on_decides_nothing() -> None:
    states = [{"in": "PASS", "out": "PASS"}, {"in": "FAIL", "out": "PASS"}]
    assert checkpoint_to_keep(states, ["in"]).kept == 1
    assert checkpoint_to_keep(states, []).kept == 0


def test_an_unsettled_set_stops_too_and_a_recovery_is_shown_not_kept() -> None:
    states = [{"out": "PASS"}, {"out": "PASS"}, {"out": "INCONCLUSIVE"}, {"out": "PASS"}]
    found = checkpoint_to_keep(states, [])
    assert (found.kept, found.stopped_at, found.recovered) == (1, 2, (3,))
    assert found.because == {"out": "INCONCLUSIVE"}


def test_a_paired_change_is_tangos() -> None:
    before, after = [True] * 8 + [False] * 2, [True] * 5 + [False] * 4 + [True]
    change = paired_change(before, after)
    assert change.value == pytest.approx(-0.2)
    assert (change.low, change.high) == tuple(tango_interval(PairedCounts(5, 1, 3, 1), 0.9))


def test_the_mean_of_two_changes_by_hand() -> None:
    mean = mean_change([Change(0.1, 0.0, 0.2), Change(-0.1, -0.3, 0.1)])
    assert mean is not None
    half = sqrt(0.1**2 + 0.2**2) / 2
    assert (mean.value, mean.low, mean.high) == pytest.approx((0, -half, half))
    assert mean_change([]) is None
    assert mean_change([Change(0.1, 0.05, 0.2)]) == Change(0.1, pytest.approx(0.05), pytest.approx(0.2))


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    draw = Random(7)
    hits, runs = 0, 400
    for _ in range(runs):
        changes = []
        for lost, won in ((0.12, 0.04), (0.05, 0.05), (0.02, 0.10)):
            kinds = draw.choices(["lost", "won", "same"], [lost, won, 1 - lost - won], k=150)
            changes.append(paired_change([kind != "won" for kind in kinds], [kind != "lost" for kind in kinds]))
        mean = mean_change(changes)
        assert mean is not None
        hits += mean.low <= 0 <= mean.high
    # 90 % give or take four standard errors.
    assert 0.84 <= hits / runs <= 0.96


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_sign_test(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(won, lost) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_discoveries_are_scipys(p_values: list[float]) -> None:
    adjusted = false_discovery_control(p_values)
    clear = [abs(value - 0.05) > 1e-9 for value in adjusted]
    found = benjamini_hochberg(p_values)
    assert [kept for kept, sure in zip(found, clear, strict=True) if sure] == [
        bool(value <= 0.05) for value, sure in zip(adjusted, clear, strict=True) if sure
    ]


def test_classes_that_went_are_named_and_chance_is_not() -> None:
    targets = [0] * 20 + [1] * 20 + [2] * 20
    before = [True] * 60
    after = [False] * 18 + [True] * 2 + [True] * 20 + [False] + [True] * 19
    (loss,) = classes_gone(["cat", "dog", "cow"], targets, before, after)
    assert (loss.label, loss.n, loss.before, loss.after) == ("cat", 20, 20, 2)


def seen(image_set: str, right: int, verdict: str | None = "PASS", n: int = 100) -> StateOutcomes:
    return StateOutcomes(
        image_set, ["a", "b"], [index % 2 for index in range(n)], [index < right for index in range(n)], verdict, 90
    )


def test_a_trajectory_by_hand() -> None:
    moments = [
        Moment(None, 0, 0.0, [seen("tuned", 50), seen("other", 80), seen("third", 60)]),
        Moment("checkpoint-1", 1, 0.5, [seen("tuned", 80), seen("other", 84), seen("third", 62)]),
        Moment("checkpoint-2", 2, 1.0, [seen("tuned", 90), seen("other", 40, "FAIL"), seen("third", 62)]),
    ]
    run = trajectory("run", "base", "lora", ["tuned", "not evaluated"], moments)
    assert run.trained_on == ("tuned",)
    assert (run.keep.kept, run.keep.stopped_at, dict(run.keep.because)) == (1, 2, {"other": "FAIL"})
    base, first, last = run.states
    assert (base.domain, base.elsewhere) == (None, None)
    assert first.domain is not None
    assert first.elsewhere is not None
    assert (first.domain.value, first.elsewhere.value) == pytest.approx((0.30, 0.03))
    assert last.elsewhere is not None
    assert last.elsewhere.value == pytest.approx((-0.40 + 0.02) / 2)
    assert run.backward_transfer is not None
    assert run.backward_transfer.value == pytest.approx(-0.19)
    assert (run.backward_transfer.low, run.backward_transfer.high) == pytest.approx((last.elsewhere.low, last.elsewhere.high))
    assert run.forgetting_from_max is not None
    assert run.forgetting_from_max.value == pytest.approx((0.44 + 0.0) / 2)
    # The field's formulas on the matrix of accuracies give the same.
    matrix = [[cell.correct / cell.n for cell in state.cells] for state in run.states]
    learned = [None, 0, 0]
    assert metrics.backward_transfer(matrix, learned) == pytest.approx(run.backward_transfer.value)
    assert metrics.forgetting_from_max(matrix, learned) == pytest.approx(run.forgetting_from_max.value)
    for index, state in enumerate(run.states[1:], 1):
        assert state.elsewhere is not None
        assert metrics.generalisation_gain(matrix, index, [1, 2]) == pytest.approx(state.elsewhere.value)
    assert last.average == pytest.approx((0.9 + 0.4 + 0.62) / 3)
    assert last.retention == pytest.approx((90 / 90 + 40 / 90 + 62 / 90) / 3)
    assert [loss.label for loss in last.cells[1].gone] == ["a", "b"]


def test_states_on_different_images_are_refused() -> None:
    moments = [Moment(None, 0, 0.0, [seen("one", 5, n=10)]), Moment("c", 1, 1.0, [seen("one", 5, n=12)])]
    with pytest.raises(ValueError, match="same images"):
        trajectory("run", "base", None, [], moments)
