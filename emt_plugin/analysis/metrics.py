"""How accuracy moves while a model goes on learning, by the names that the field gives these numbers.

All take a matrix: ``accuracy[state][image_set]``, fractions, states in order of training. ``learned[image_set]`` is the
state at which an image set was learned: its own in a sequence of tasks, 0 for what the first state brought along, and None
for what no state has finished learning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

Matrix = Sequence[Sequence[float]]
Learned = Sequence[int | None]


def average_accuracy(accuracy: Matrix) -> float:
    """ACC: the mean over all image sets after the last state (Lopez-Paz and Ranzato 2017, arXiv 1706.08840)."""
    return fmean(accuracy[-1])


def backward_transfer(accuracy: Matrix, learned: Learned) -> float | None:
    """BWT: mean of accuracy after the last state less that when learned, over sets learned before it (arXiv 1706.08840).

    Negative is forgetting. None where no set was learned before the last state.
    """
    return _mean_of_earlier(accuracy, learned, lambda column, start: column[-1] - column[start])


def forward_transfer(accuracy: Matrix, learned: Learned, untrained: Sequence[float]) -> float | None:
    """FWT: mean of accuracy just before a set is learned less that of an untrained model (arXiv 1706.08840).

    Over sets learned after the first state; None where there is none.
    """
    gains = [
        accuracy[state - 1][image_set] - untrained[image_set]
        for image_set, state in enumerate(learned)
        if state is not None and state
    ]
    return fmean(gains) if gains else None


def forgetting_from_max(accuracy: Matrix, learned: Learned) -> float | None:
    """F: mean of the best accuracy of any earlier state less that of the last (Chaudhry et al. 2018, arXiv 1801.10112).

    Over sets learned before the last state. Biased upwards: the best of several noisy numbers. Shown, never gated on.
    """
    return _mean_of_earlier(accuracy, learned, lambda column, start: max(column[:-1]) - column[-1])


def forgetting_from_first(accuracy: Matrix, learned: Learned) -> float | None:
    """Mean of accuracy when learned less that after the last state: what Avalanche calls Forgetting, and -BWT."""
    return _mean_of_earlier(accuracy, learned, lambda column, start: column[start] - column[-1])


def retention(model: float, encoder: float) -> float | None:
    """The share of its encoder's accuracy that a model keeps, after Kemker et al. 2018 (arXiv 1708.02072); None of none."""
    return model / encoder if encoder else None


def generalisation_gain(accuracy: Matrix, state: int, outside: Sequence[int]) -> float | None:
    """Mean change since the first state over image sets that nothing was trained on; None where there is none.

    The EMT paper's finding (section 5): early in fine-tuning it is positive, later negative.
    """
    return fmean(accuracy[state][index] - accuracy[0][index] for index in outside) if outside else None


def _mean_of_earlier(accuracy: Matrix, learned: Learned, of: Callable[[list[float], int], float]) -> float | None:
    last = len(accuracy) - 1
    found = [
        of([row[image_set] for row in accuracy], start)
        for image_set, start in enumerate(learned)
        if start is not None and start < last
    ]
    return fmean(found) if found else None
