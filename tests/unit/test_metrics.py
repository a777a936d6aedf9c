"""The metrics by hand: Avalanche's own test matrix, and the paper's tables 9 to 11."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.analysis import checkpoint_to_keep
from emt_plugin.analysis.metrics import (
    average_accuracy,
    backward_transfer,
    forgetting_from_first,
    forgetting_from_max,
    forward_transfer,
    generalisation_gain,
    retention,
)
from emt_plugin.catalog.published import published

# avalanche-lib's test of its forgetting metrics; task i is learned in state i.
AVALANCHE = [[1, 0, 0], [0.5, 0.8, 1], [0.2, 1, 0.5]]
SEQUENCE = [0, 1, 2]
MNIST, CIFAR10, CIFAR100, MINI = range(4)


def test_avalanches_matrix() -> None:
    assert average_accuracy(AVALANCHE) == pytest.approx(0.5667, abs=5e-5)
    assert backward_transfer(AVALANCHE, SEQUENCE) == pytest.approx(-0.30)
    assert forward_transfer(AVALANCHE, SEQUENCE, [0, 0, 0]) == pytest.approx(0.50)
    assert forgetting_from_max(AVALANCHE, SEQUENCE) == pytest.approx(0.30)
    # Avalanche's last row is .8, -.2, 0; the last task has nothing to forget yet.
    assert forgetting_from_first(AVALANCHE, SEQUENCE) == pytest.approx((0.8 - 0.2) / 2)


def test_first_and_max_are_different_numbers() -> None:
    risen_then_fallen = [[0.70], [0.90], [0.60]]
    assert forgetting_from_first(risen_then_fallen, [0]) == pytest.approx(0.10)
    assert forgetting_from_max(risen_then_fallen, [0]) == pytest.approx(0.30)


def test_nothing_learned_before_the_last_state_has_no_transfer() -> None:
    assert backward_transfer([[0.5]], [0]) is None
    assert forgetting_from_max([[0.5], [0.6]], [None]) is None
    assert forward_transfer([[0.5], [0.6]], [0], [0.1]) is None
    assert generalisation_gain([[0.5], [0.6]], 1, []) is None
    assert retention(0.5, 0) is None
    assert retention(0.45, 0.9) == pytest.approx(0.5)


def test_the_papers_linear_cifar10_run() -> None:
    # Table 9-11, LLaVA-7b tuned on CIFAR-10, projector alone: base, epochs 1, 2 and 3.
    accuracy = published().trajectory("LLaVA-7b", "cifar10", "linear")
    assert accuracy == [
        pytest.approx(row)
        for row in (
            (0.5696, 0.5671, 0.3453, 0.1412),
            (0.2045, 0.9054, 0.4734, 0.3490),
            (0.1796, 0.9163, 0.4076, 0.3236),
            (0.1710, 0.9223, 0.3624, 0.3076),
        )
    ]
    learned = [0, None, 0, 0]
    # (17.10 - 56.96 + 36.24 - 34.53 + 30.76 - 14.12) / 3 = (-39.86 + 1.71 + 16.64) / 3
    assert backward_transfer(accuracy, learned) == pytest.approx(-0.2151 / 3)
    assert forgetting_from_first(accuracy, learned) == pytest.approx(0.2151 / 3)
    # (56.96 - 17.10) + (47.34 - 36.24) + (34.90 - 30.76) = 39.86 + 11.10 + 4.14
    assert forgetting_from_max(accuracy, learned) == pytest.approx(0.5510 / 3)
    # Epoch 1: 20.45 - 56.96 + 47.34 - 34.53 + 34.90 - 14.12 = -36.51 + 12.81 + 20.78
    assert generalisation_gain(accuracy, 1, [MNIST, CIFAR100, MINI]) == pytest.approx(-0.0292 / 3)
    # The paper's finding is of the RGB sets: + 12.81 and + 20.78.
    assert generalisation_gain(accuracy, 1, [CIFAR100, MINI]) == pytest.approx(0.3359 / 2)
    # 17.10 + 92.23 + 36.24 + 30.76 = 176.33
    assert average_accuracy(accuracy) == pytest.approx(1.7633 / 4)


def test_the_papers_lora_mnist_run() -> None:
    accuracy = published().trajectory("LLaVA-7b", "mnist", "lora")
    learned = [None, 0, 0, 0]
    # (7.03 - 56.71 + 1.55 - 34.53 + 1.04 - 14.12) / 3 = (-49.68 - 32.98 - 13.08) / 3
    assert backward_transfer(accuracy, learned) == pytest.approx(-0.9574 / 3)
    # The base is best on all three, so max - last is the same.
    assert forgetting_from_max(accuracy, learned) == pytest.approx(0.9574 / 3)


def judged(accuracy: list, names: list[str]) -> list[dict[str, Literal["PASS", "FAIL"]]]:
    """Verdicts of published accuracies, which have no images behind them: a loss of less than 5 points passes."""
    return [
        {name: "PASS" if now - before > -0.05 else "FAIL" for name, now, before in zip(names, state, accuracy[0], strict=True)}
        for state in accuracy
    ]


@pytest.mark.parametrize("method", ["linear", "lora"])
@pytest.mark.parametrize("tuned_on", ["mnist", "cifar10", "cifar100", "miniimagenet"])
def test_the_checkpoint_to_keep_of_the_papers_runs(tuned_on: str, method: str) -> None:
    # MNIST falls by far at epoch 1 of every RGB run, and everything falls in the MNIST runs: keep the base.
    paper = published()
    accuracy = paper.trajectory("LLaVA-7b", tuned_on, method)
    found = checkpoint_to_keep(judged(accuracy, list(paper.image_sets)), [tuned_on])
    assert (found.kept, found.stopped_at) == (0, 1)


def test_without_mnist_the_papers_linear_cifar100_run_stops_at_epoch_2() -> None:
    # CIFAR-10: 56.71, 64.54 (+7.83), 52.26 (-4.45), 31.54 (-25.17); miniImagenet: 14.12, 33.86, 30.86, 22.61, all above.
    accuracy = [row[1:] for row in published().trajectory("LLaVA-7b", "cifar100", "linear")]
    found = checkpoint_to_keep(judged(accuracy, ["cifar10", "cifar100", "miniimagenet"]), ["cifar100"])
    assert (found.kept, found.stopped_at, dict(found.because)) == (2, 3, {"cifar10": "FAIL"})


def test_by_the_text_embedding_the_papers_linear_mnist_run_loses_nothing() -> None:
    paper = published()
    accuracy = paper.trajectory("LLaVA-7b", "mnist", "linear", "text-embedding")
    assert accuracy[0] == (0.4613, 0.6810, 0.4487, 0.2835)
    found = checkpoint_to_keep(judged(accuracy, list(paper.image_sets)), ["mnist"])
    assert (found.kept, found.stopped_at) == (3, None)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=6))
def test_max_never_reports_less_forgetting_than_first(accuracy: list[list[float]]) -> None:
    learned = [0, 0, 0]
    first, largest = forgetting_from_first(accuracy, learned), forgetting_from_max(accuracy, learned)
    assert first is not None
    assert largest is not None
    assert largest >= first - 1e-12
    assert backward_transfer(accuracy, learned) == pytest.approx(-first)
