"""One fine-tuning run, state by state: what it gained in its domain, what that cost elsewhere, and which state to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from emt_plugin.analysis.change import Change, mean_change, paired_change
from emt_plugin.analysis.keep import Judged, Keep, checkpoint_to_keep
from emt_plugin.analysis.mending import Mending
from emt_plugin.analysis.metrics import average_accuracy, retention
from emt_plugin.stats import benjamini_hochberg, mcnemar

MOST_CLASSES = 5


@dataclass(frozen=True)
class StateOutcomes:
    """What one state made of one image set.

    Attributes:
        image_set: its id.
        labels: label names.
        targets: label index of each image, in an order that all states share.
        correct: whether each image is right, in the same order.
        verdict: by policy, on this pair against the base; None for no verdict.
        encoder_correct: images that the encoder classifies right; None without an encoder.
        encoder_gap: accuracy less the encoder's, on the same images (the EMT gap); None without an encoder.
        named: of the answers, how many name exactly one label of each label set, by what that set is called.
        well_formed: answers that are nothing but an opening, an article and a label; None where nothing says so.
    """

    image_set: str
    labels: Sequence[str]
    targets: Sequence[int]
    correct: Sequence[bool]
    verdict: Judged | None = None
    encoder_correct: int | None = None
    encoder_gap: Change | None = None
    named: Mapping[str, int] = field(default_factory=dict)
    well_formed: int | None = None


@dataclass(frozen=True)
class Moment:
    """A state with all that it made of the image sets; ``checkpoint`` is None for the base."""

    checkpoint: str | None
    step: int
    epoch: float | None
    seen: Sequence[StateOutcomes]


@dataclass(frozen=True)
class ClassLoss:
    """A class that fewer images are right of than at the base.

    Attributes:
        label: its name.
        n: its images.
        before: right at the base.
        after: right at this state.
    """

    label: str
    n: int
    before: int
    after: int


@dataclass(frozen=True)
class Cell:
    """One state on one image set.

    Attributes:
        image_set: its id.
        n: images.
        correct: images right.
        change: accuracy less the base's on the same images; None at the base.
        verdict: on that, at the pair's tolerance.
        encoder_correct: images that the encoder classifies right.
        encoder_gap: accuracy less the encoder's (the EMT gap).
        named: answers that name exactly one label of a label set, by what that set is called.
        well_formed: answers that are nothing but an opening, an article and a label.
        gone: classes that lost, those of them that are no chance (McNemar's exact test, Benjamini-Hochberg at 5 %), the largest
            losses first.
    """

    image_set: str
    n: int
    correct: int
    change: Change | None
    verdict: Judged | None
    encoder_correct: int | None
    encoder_gap: Change | None
    named: Mapping[str, int]
    well_formed: int | None
    gone: tuple[ClassLoss, ...] = ()


@dataclass(frozen=True)
class State:
    """One state of a trajectory.

    Attributes:
        checkpoint: its id, None for the base.
        step: optimiser steps since the base.
        epoch: passes over the training images; None where it is not recorded.
        cells: one for each image set.
        average: mean accuracy over image sets (ACC).
        encoder_gap: mean over image sets of accuracy less the encoder's (the EMT gap); None without an encoder.
        retention: mean over image sets of the share of the encoder's accuracy; None without an encoder.
        domain: mean change since the base over the image sets that were trained on; None without any, or at the base.
        elsewhere: the same over all others: the generalisation gain where positive, minus forgetting where negative.
        alpha: where it is on the line from the base, 0, to what was tuned, 1, whose thousandths are its steps; None for a
            state of a training and for a base.
    """

    checkpoint: str | None
    step: int
    epoch: float | None
    cells: tuple[Cell, ...]
    average: float
    encoder_gap: Change | None
    retention: float | None
    domain: Change | None
    elsewhere: Change | None
    alpha: float | None = None


@dataclass(frozen=True)
class Trajectory:
    """A fine-tuning run, or the line between a base and what was tuned from it.

    Attributes:
        name: the run's.
        model: id of the base.
        method: ``linear`` or ``lora``; None where it is not recorded.
        trained_on: ids of the image sets in the domain.
        image_sets: ids of all, in order.
        states: in order of training, the base first.
        keep: the checkpoint to keep; None where no image set outside the domain was evaluated.
        unmeasured: checkpoints that were not measured on all image sets, and so are no states here.
        backward_transfer: mean change from base to last state over image sets outside the domain (BWT); negative is forgetting.
        forgetting_from_first: minus that, which is what Avalanche calls forgetting.
        forgetting_from_max: mean over the same sets of the best earlier state less the last (Chaudhry et al. 2018). Biased
            upwards, since the best is chosen by the same images.
        mending: of such a line, which state was chosen, by other images than those of the states; None for a fine-tuning run.
    """

    name: str
    model: str
    method: str | None
    trained_on: tuple[str, ...]
    image_sets: tuple[str, ...]
    states: tuple[State, ...]
    keep: Keep | None
    unmeasured: tuple[str, ...]
    backward_transfer: Change | None
    forgetting_from_first: Change | None
    forgetting_from_max: Change | None
    mending: Mending | None = None


def trajectory(
    name: str,
    model: str,
    method: str | None,
    trained_on: Sequence[str],
    moments: Sequence[Moment],
    unmeasured: Sequence[tuple[int, str]] = (),
) -> Trajectory:
    """Put a trajectory together.

    Args:
        name: the run's.
        model: id of the base.
        method: how it was trained, where that is known.
        trained_on: ids of image sets in the domain; those that were not evaluated do not matter.
        moments: in order of training, the base first; each with the same image sets in the same order.
        unmeasured: checkpoints without all their measurements, each with the number of moments before it. Nothing behind the
            first of them is recommended: it may have forgotten.

    Raises:
        ValueError: no moment, or moments with different images.
    """
    base, last = moments[0], moments[-1]
    names = tuple(seen.image_set for seen in base.seen)
    domain = [seen for seen in names if seen in trained_on]
    outside = [index for index, seen in enumerate(names) if seen not in trained_on]
    states = tuple(_state(moment, base, domain) for moment in moments)
    known = moments[: unmeasured[0][0]] if unmeasured else moments
    verdicts = [{seen.image_set: seen.verdict for seen in moment.seen} for moment in known]
    keep = checkpoint_to_keep(verdicts, domain) if outside else None
    first = mean_change([paired_change(last.seen[index].correct, base.seen[index].correct) for index in outside])
    return Trajectory(
        name=name,
        model=model,
        method=method,
        trained_on=tuple(domain),
        image_sets=names,
        states=states,
        keep=keep,
        unmeasured=tuple(checkpoint for _, checkpoint in unmeasured),
        backward_transfer=Change(-first.value, -first.high, -first.low) if first and len(moments) > 1 else None,
        forgetting_from_first=first if len(moments) > 1 else None,
        forgetting_from_max=_from_max(moments, outside),
    )


def _from_max(moments: Sequence[Moment], outside: Sequence[int]) -> Change | None:
    if len(moments) < 2:
        return None
    losses = []
    for index in outside:
        best = max(moments[:-1], key=lambda moment: sum(moment.seen[index].correct))
        losses.append(paired_change(moments[-1].seen[index].correct, best.seen[index].correct))
    return mean_change(losses)


def _state(moment: Moment, base: Moment, domain: Sequence[str]) -> State:
    cells = tuple(_cell(seen, None if moment is base else before) for seen, before in zip(moment.seen, base.seen, strict=True))
    shares = [retention(cell.correct / cell.n, cell.encoder_correct / cell.n) for cell in cells if cell.encoder_correct]
    kept = [share for share in shares if share is not None]
    gaps = [cell.encoder_gap for cell in cells if cell.encoder_gap]
    return State(
        checkpoint=moment.checkpoint,
        step=moment.step,
        epoch=moment.epoch,
        cells=cells,
        average=average_accuracy([[cell.correct / cell.n for cell in cells]]),
        encoder_gap=mean_change(gaps) if len(gaps) == len(cells) else None,
        retention=fmean(kept) if len(kept) == len(cells) else None,
        domain=_mean(cells, lambda cell: cell.image_set in domain),
        elsewhere=_mean(cells, lambda cell: cell.image_set not in domain),
    )


def _mean(cells: Sequence[Cell], wanted: Callable[[Cell], bool]) -> Change | None:
    return mean_change([cell.change for cell in cells if cell.change and wanted(cell)])


def _cell(seen: StateOutcomes, before: StateOutcomes | None) -> Cell:
    if before is not None and list(before.targets) != list(seen.targets):
        raise ValueError(f"the states were not evaluated on the same images of {seen.image_set}")
    return Cell(
        image_set=seen.image_set,
        n=len(seen.correct),
        correct=sum(seen.correct),
        change=paired_change(before.correct, seen.correct) if before else None,
        verdict=seen.verdict,
        encoder_correct=seen.encoder_correct,
        encoder_gap=seen.encoder_gap,
        named=dict(seen.named),
        well_formed=seen.well_formed,
        gone=classes_gone(seen.labels, seen.targets, before.correct, seen.correct) if before else (),
    )


def classes_gone(
    labels: Sequence[str], targets: Sequence[int], before: Sequence[bool], after: Sequence[bool]
) -> tuple[ClassLoss, ...]:
    """The classes that lost, as far as that is no chance.

    McNemar's exact test for each class, Benjamini-Hochberg at 5 % over the classes of the set.

    Args:
        labels: label names.
        targets: label index of each image.
        before: whether each is right at first.
        after: whether each is right later.
    """
    found = []
    for index, label in enumerate(labels):
        pairs = [(was, now) for target, was, now in zip(targets, before, after, strict=True) if target == index]
        lost, won = pairs.count((True, False)), pairs.count((False, True))
        loss = ClassLoss(label, len(pairs), sum(was for was, _ in pairs), sum(now for _, now in pairs))
        found.append((mcnemar(won, lost), loss))
    real = [loss for loss, kept in zip(found, benjamini_hochberg([p for p, _ in found]), strict=True) if kept]
    losses = [loss for _, loss in real if loss.after < loss.before]
    return tuple(sorted(losses, key=lambda loss: (loss.after - loss.before, loss.label))[:MOST_CLASSES])
