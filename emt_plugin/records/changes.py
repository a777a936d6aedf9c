"""What a run is beside earlier ones: pairs compared on the same images, and the trend of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emt_plugin.gate import Comparison

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """Something that two measurements do not share and that may move their numbers.

    Attributes:
        name: what it is, such as ``model weights`` or ``torch``.
        before: its value in the earlier one, in words; None where that did not say.
        after: its value in the later one.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class PairChange:
    """One pair against itself in an earlier run.

    Attributes:
        pair: id of the pair.
        comparison: on the same images, the earlier run being the reference; None where that is refused or impossible.
            ``n01`` counts images that went from right to wrong, ``n10`` those that went from wrong to right.
        reason: why there is none, one sentence; or what must be said beside it.
        p: exact two-sided p-value of no change at all (McNemar); None without a comparison.
        p_holm: the same by Holm over the pairs that were compared.
        differences: what differs between the two, beside the answers.
    """

    pair: str
    comparison: Comparison | None
    reason: str | None = None
    p: float | None = None
    p_holm: float | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def moved(self) -> str:
        """``worse`` or ``better`` where the 90 % interval of the change leaves 0 out, ``same`` where not, else ``unknown``."""
        if self.comparison is None:
            return "unknown"
        if self.comparison.high < 0:
            return "worse"
        return "better" if self.comparison.low > 0 else "same"

    @property
    def may_be_chance(self) -> bool:
        """Whether a change does not survive Holm over the pairs that were compared."""
        return self.moved in ("worse", "better") and self.p_holm is not None and self.p_holm >= ALPHA


@dataclass(frozen=True)
class RunChanges:
    """A run against an earlier one.

    Attributes:
        name: what the earlier one is to the reader, such as ``last night`` or ``release 1.2``.
        run_id: the earlier run.
        started: when it started, ISO 8601.
        pairs: those of either run, in this run's order.
    """

    name: str
    run_id: str
    started: str
    pairs: tuple[PairChange, ...]


@dataclass(frozen=True)
class Flip:
    """An image that was right in one of two runs and wrong in the other.

    Attributes:
        row: index of the image in its split.
        image: content hash of its pixels.
        occurrence: which of the images with this content.
        lost: right before and wrong now; else the other way about.
        before: the earlier answer; None where none was wanted.
        after: the later answer.
        read_before: index of the class that the earlier answer was read as; None for none.
        read_after: the same of the later answer.
    """

    row: int
    image: str
    occurrence: int
    lost: bool
    before: str | None
    after: str | None
    read_before: int | None
    read_after: int | None


@dataclass(frozen=True)
class TrendPoint:
    """One pair in one run of the history.

    Attributes:
        run_id: the run.
        started: when it started, ISO 8601.
        status: ``measured``, or why there is no number.
        verdict: of the comparison that gated; None without one.
        n: images.
        accuracy: of the model, a fraction; None without a measurement.
        reference: accuracy of what it was compared with.
        gap: accuracy less the reference's.
        low: lower end of the gap's 90 % interval.
        high: its upper end.
        tolerance: the largest loss that passed.
        changed: what of the fingerprint differs from the point before.
        release: name of the release that this run was pinned as; None for none.
        sequential: images were taken one by one, and the interval holds whenever one stops.
    """

    run_id: str
    started: str
    status: str
    verdict: str | None
    n: int
    accuracy: float | None
    reference: float | None
    gap: float | None
    low: float | None
    high: float | None
    tolerance: float | None
    changed: tuple[str, ...] = ()
    release: str | None = None
    sequential: bool = False


@dataclass(frozen=True)
class Trend:
    """One pair over the runs of a history.

    Attributes:
        pair: id of the pair.
        points: one for each run, the oldest first, this run last.
    """

    pair: str
    points: tuple[TrendPoint, ...]


@dataclass(frozen=True)
class Repeat:
    """The same images measured again in the same run: how much moves where nothing changed.

    Attributes:
        passes: how often each image was measured.
        n: images.
        answers: images whose answer was not the same text every time.
        flips: images that were right in some passes and wrong in others.
        rate: share of those flips, a fraction.
        low: lower end of the rate's two-sided 90 % interval (Wilson 1927).
        high: its upper end.
        correct: images right, by pass.
    """

    passes: int
    n: int
    answers: int
    flips: int
    rate: float
    low: float
    high: float
    correct: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """Which part of a larger run this is.

    Attributes:
        index: 1 for the first.
        count: how many there are.
        pairs: ids of all pairs of the larger run, in order.
        by: what is parted: the pairs, or the images of every pair.
        otherwise: what a part by images would exit with if verdicts were not the joined run's to take; 0 by pairs.
    """

    index: int
    count: int
    pairs: tuple[str, ...]
    by: Literal["pairs", "images"] = "pairs"
    otherwise: int = 0

    @property
    def words(self) -> str:
        """Which part it is."""
        return f"part {self.index} of {self.count}"
