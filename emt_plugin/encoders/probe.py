"""Linear probes: what a linear classifier can still read from features. Supervised, so a diagnosis.

Multinomial logistic regression with an L2 penalty on standardised features, fitted in float64 by L-BFGS on the CPU,
so that the same features give the same probe. The penalty is the one that does best on a fifth of the training
images, which is then fitted on too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch.nn import functional

# Mean loss plus this times the squared weights; from strong to weak, ties to the stronger.
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
FOLDS = 5
SEED = "emt-probe-1"
STEPS = 200
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        mean: of the training features, width.
        scale: their standard deviation, width.
        weights: width x classes.
        bias: classes.
        penalty: the one chosen.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    weights: torch.Tensor
    bias: torch.Tensor
    penalty: float

    def classes(self, features: torch.Tensor) -> list[int]:
        """The class of every row; ties to the lower index."""
        standard = (features.double() - self.mean) / self.scale
        return [int(index) for index in (standard @ self.weights + self.bias).argmax(-1).tolist()]


def fit_probe(features: torch.Tensor, labels: Sequence[int], classes: int) -> Probe:
    """Fit a probe, its penalty chosen on these rows alone.

    Args:
        features: rows x width.
        labels: the class of each row.
        classes: how many there are.
    """
    folds = folds_of(labels)
    held = torch.tensor([fold == 0 for fold in folds])
    targets = torch.tensor(labels)
    best = PENALTIES[0]
    if bool((~held).any()) and bool(held.any()):
        start = None
        most = -1
        for penalty in PENALTIES:
            start = _fitted(features[~held], targets[~held], classes, penalty, start)
            right = sum(
                found == label for found, label in zip(start.classes(features[held]), targets[held].tolist(), strict=True)
            )
            if right > most:
                most, best = right, penalty
    return _fitted(features, targets, classes, best, None)


def fitted_classes(features: torch.Tensor, labels: Sequence[int], classes: int, others: torch.Tensor) -> list[int]:
    """The class of every row of ``others`` by a probe that was fitted on ``features``; see ``fit_probe``."""
    return fit_probe(features, labels, classes).classes(others)


def out_of_fold(features: torch.Tensor, labels: Sequence[int], classes: int) -> list[int]:
    """The class of every row by a probe that was fitted on the other four fifths of the rows."""
    folds = torch.tensor(folds_of(labels))
    found = [0] * len(labels)
    for fold in range(FOLDS):
        inside = (folds == fold).nonzero().flatten().tolist()
        others = (folds != fold).nonzero().flatten().tolist()
        if not inside or not others:
            continue
        probe = fit_probe(features[others], [labels[row] for row in others], classes)
        for row, predicted in zip(inside, probe.classes(features[inside]), strict=True):
            found[row] = predicted
    return found


def folds_of(labels: Sequence[int]) -> list[int]:
    """A fold for each row, the classes spread evenly over folds in a fixed pseudo-random order."""
    order = sorted(range(len(labels)), key=lambda row: sha256(f"{SEED}:{row}".encode()).digest())
    seen: dict[int, int] = {}
    folds = [0] * len(labels)
    for row in order:
        position = seen.get(labels[row], 0)
        folds[row] = position % FOLDS
        seen[labels[row]] = position + 1
    return folds


def _fitted(features: torch.Tensor, targets: torch.Tensor, classes: int, penalty: float, start: Probe | None) -> Probe:
    rows = features.double()
    mean = rows.mean(0)
    scale = rows.std(0, unbiased=False)
    scale = torch.where(scale > SMALLEST_SCALE, scale, torch.ones_like(scale))
    standard = (rows - mean) / scale
    with torch.inference_mode(False), torch.enable_grad():
        standard, targets = standard.clone(), targets.clone()
        weights = (start.weights.clone() if start else standard.new_zeros(standard.shape[1], classes)).requires_grad_()
        bias = (start.bias.clone() if start else standard.new_zeros(classes)).requires_grad_()
        optimizer = torch.optim.LBFGS([weights, bias], max_iter=STEPS, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = functional.cross_entropy(standard @ weights + bias, targets) + penalty * weights.square().sum()
            value.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Probe(mean, scale, weights.detach(), bias.detach(), penalty)
