"""Where accuracy falls between the encoder and the answer, step by step on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from emt_plugin.stats import LEVEL, PairedCounts, tango_interval

# From the encoder to the sentence; what was not measured is left out.
ENCODER = "encoder"
VISION_PROBE = "vision probe"
PROJECTOR_PROBE = "projector probe"
LIKELIHOOD = "likelihood"
ANSWER = "answer"
CLEAN_ANSWER = "clean answer"
ORDER = (ENCODER, VISION_PROBE, PROJECTOR_PROBE, LIKELIHOOD, ANSWER, CLEAN_ANSWER)
MEANING = {
    ENCODER: "the vision encoder, zero-shot",
    VISION_PROBE: "a linear probe on the tower's mean patch token",
    PROJECTOR_PROBE: "a linear probe on the mean token behind the projector",
    LIKELIHOOD: "the label that the language model finds most probable",
    ANSWER: "the answer names the class and no other",
    CLEAN_ANSWER: "and is nothing but an opening, an article and the label",
}
SUPERVISED = {VISION_PROBE, PROJECTOR_PROBE}


class Outcome(NamedTuple):
    """Who was right at one step, image by image, and what a reader must know of it."""

    name: str
    correct: Sequence[bool]
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: one of ``ORDER``.
        correct: images right here.
        change: accuracy here less accuracy at the step before, a fraction; 0 at the first.
        low: lower end of the change's two-sided 90 % interval (Tango 1998).
        high: its upper end.
        note: what must be said beside it.
    """

    name: str
    correct: int
    change: float = 0.0
    low: float = 0.0
    high: float = 0.0
    note: str = ""


def steps(outcomes: Sequence[Outcome]) -> tuple[Step, ...]:
    """The steps of some outcomes on the same images, in the order of ``ORDER``.

    Raises:
        ValueError: no image, or outcomes of different length.
    """
    known = sorted(outcomes, key=lambda outcome: ORDER.index(outcome.name))
    found: list[Step] = []
    for before, outcome in zip([None, *known], known, strict=False):
        if before is None:
            found.append(Step(outcome.name, sum(outcome.correct), note=outcome.note))
            continue
        counts = PairedCounts.of(list(outcome.correct), list(before.correct))
        low, high = tango_interval(counts, LEVEL)
        found.append(Step(outcome.name, sum(outcome.correct), counts.gap, low, high, outcome.note))
    return tuple(found)


@dataclass(frozen=True)
class Loss:
    """Where the largest part of the accuracy goes.

    Attributes:
        before: the step before it.
        step: the step behind it.
        change: accuracy lost between the two, a negative fraction.
        low: lower end of the change's two-sided 90 % interval (Tango 1998).
        high: its upper end.
        first: where the way begins, a probe that is passed over aside.
        last: where it ends.
        whole: the change on the whole way, a negative fraction.
    """

    before: str
    step: str
    change: float
    low: float
    high: float
    first: str
    last: str
    whole: float

    @property
    def share(self) -> float:
        """Of the whole way's loss, a fraction; more than 1 where another step gains."""
        return self.change / self.whole


def largest_loss(outcomes: Sequence[Outcome]) -> Loss | None:
    """The largest loss between two steps; None where nothing is lost on the whole way.

    A probe that reads less than a later step does is too weak a reader to say where anything was lost, and is passed
    over: what a later step can still use was there.
    """
    known = sorted(outcomes, key=lambda outcome: ORDER.index(outcome.name))
    right = [sum(outcome.correct) for outcome in known]
    firm = [
        position
        for position, outcome in enumerate(known)
        if outcome.name not in SUPERVISED or all(later < right[position] for later in right[position + 1 :])
    ]
    whole = right[firm[-1]] - right[firm[0]] if firm else 0
    if whole >= 0:
        return None
    before, step = min(pairwise(firm), key=lambda pair: right[pair[1]] - right[pair[0]])
    counts = PairedCounts.of(list(known[step].correct), list(known[before].correct))
    low, high = tango_interval(counts, LEVEL)
    ends = (known[firm[0]].name, known[firm[-1]].name)
    return Loss(known[before].name, known[step].name, counts.gap, low, high, *ends, whole / counts.n)
