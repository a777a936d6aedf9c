"""Two runs on the same images: each pair against itself, and which images flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from emt_plugin.gate import Reference, Tolerance, compare, compare_in_order, with_holm
from emt_plugin.gate.tolerances import DEFAULT
from emt_plugin.records import (
    MARK,
    Difference,
    Flip,
    PairChange,
    PairRecord,
    Row,
    RunChanges,
    RunRecord,
    images_hashes,
    mark,
)
from emt_plugin.runs.fingerprint import differences, fingerprint
from emt_plugin.stats import holm, mcnemar, sequential_p

Rows = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Measured:
    """One pair of one run, as far as another run can be compared with it.

    Attributes:
        run_id: the run.
        scorer: whose outcomes these are; None without any.
        images: hash over the evaluated images and labels.
        correct: whether each image was right, in the order of ``in_order``; empty where that is not known.
        tolerance: the largest loss that passes by policy.
        fingerprint: what else may move the numbers.
        missing: why nothing was measured, in words; empty where something was.
        chance: accuracy of one who does not look; None where it is not known.
        split: images of the split, where images were taken one by one; None where their number was fixed beforehand.
        one_by_one: whether each image was right, in the fixed order; empty where that order is not known.
        marks: for each image in the fixed order the mark of the images up to it; empty where that order is not known.
        names: of the images in the fixed order; empty where they are not known.
    """

    run_id: str
    scorer: str | None
    images: str
    correct: tuple[bool, ...]
    tolerance: float
    fingerprint: Mapping[str, str]
    missing: str = ""
    chance: float | None = None
    split: int | None = None
    one_by_one: tuple[bool, ...] = ()
    marks: str = ""
    names: tuple[tuple[str, int], ...] = ()

    @property
    def n(self) -> int:
        """Images whose outcome is known."""
        return len(self.one_by_one) or len(self.correct)

    def mark_of(self, count: int) -> str:
        """The mark of the first so many images; empty where it is not known."""
        whole = mark(self.images) if count == self.n else ""
        return self.marks[MARK * (count - 1) : MARK * count] or whole

    def first(self, count: int, names: Sequence[tuple[str, int]]) -> tuple[bool, ...]:
        """Whether each of the first so many images was right, in the fixed order; empty where that is not known.

        Args:
            count: how many.
            names: of the images in that order, as far as the other measurement knows them.
        """
        if self.one_by_one:
            return self.one_by_one[:count]
        if count != len(self.correct) or len(names) < count:
            return ()
        places = sorted(range(count), key=lambda place: names[place])
        outcomes = dict(zip(places, self.correct, strict=True))
        return tuple(outcomes[place] for place in range(count))


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows in an order that depends on the images alone."""
    return sorted(rows, key=lambda row: (row.image, row.occurrence))


def measured(run: RunRecord, pair: PairRecord, rows: Sequence[Row]) -> Measured:
    """A pair of a run with its rows."""
    scorer = pair.scores[0].scorer if pair.scores else None
    known = [row.correct_by(scorer) for row in in_order(rows)] if scorer else []
    whole = len(known) == pair.n and None not in known
    sequential = pair.gating.sequential if pair.gating else None
    # Records keep the images in the order in which they were taken.
    hashes = images_hashes(pair.labels, ((row.image, row.occurrence, row.label) for row in rows)) if whole else ()
    return Measured(
        run_id=run.run_id,
        scorer=scorer,
        images=str(pair.image_set_facts.get("fingerprint", "")),
        correct=tuple(map(bool, known)) if whole else (),
        tolerance=pair.gating.tolerance.policy if pair.gating else DEFAULT,
        fingerprint=fingerprint(pair, run.environment),
        missing=_in_part(pair) or missing(pair.status, pair.reason),
        chance=pair.gating.chance if pair.gating else None,
        split=sequential.of if sequential else None,
        one_by_one=tuple(bool(row.correct_by(scorer)) for row in rows) if whole and scorer else (),
        marks="".join(map(mark, hashes)),
        names=tuple((row.image, row.occurrence) for row in rows) if whole else (),
    )


def _in_part(pair: PairRecord) -> str:
    return f"{pair.part.words} by images alone, which `emt merge` joins," if pair.part else ""


def missing(status: str, reason: str | None) -> str:
    """Why a pair was not measured, in words; empty where it was."""
    if status == "measured":
        return ""
    return f"{status.replace('-', ' ')}{f' ({reason})' if reason else ''}"


def compare_measured(pair: str, before: Measured, after: Measured, tolerance: float | None = None) -> PairChange:
    """One pair against itself in an earlier run; without a comparison where the two did not see the same images.

    Args:
        pair: its id.
        before: the earlier one.
        after: the later one.
        tolerance: the largest loss that passes; None for the later one's policy.
    """
    # What was not measured says little of itself.
    differ = () if before.missing or after.missing else differences(before.fingerprint, after.fingerprint)
    why_not = _why_not(before, after)
    if why_not:
        # That the images differ is the reason, and need not be said again.
        return PairChange(pair, None, why_not, differences=tuple(found for found in differ if found.name != "images"))
    policy = after.tolerance if tolerance is None else tolerance
    taken = Tolerance(policy, "policy" if tolerance is None else "--tolerance", policy)
    scorer = str(after.scorer)
    split = after.split or before.split
    if split:
        return _compared_in_order(pair, before, after, taken, split, differ)
    comparison = compare(after.correct, before.correct, Reference("run", before.run_id), taken, scorer, after.chance)
    return PairChange(pair, comparison, p=mcnemar(comparison.n10, comparison.n01), differences=differ)


def _compared_in_order(
    pair: str, before: Measured, after: Measured, taken: Tolerance, split: int, differ: tuple[Difference, ...]
) -> PairChange:
    """The first images of the order, which both have: how many those are the results chose, so bets compare them."""
    count = min(before.n, after.n)
    then, now = before.first(count, after.names), after.first(count, before.names)
    against = Reference("run", before.run_id)
    comparison = compare_in_order(now, then, against, taken, max(split, count), str(after.scorer), after.chance)
    p = sequential_p([int(is_now) - int(was) for is_now, was in zip(now, then, strict=True)], max(split, count))
    # More images are no other images.
    differ = tuple(found for found in differ if found.name != "images")
    whole = before.n == after.n
    reason = (
        None if whole else f"on the first {count} images of the order, of {before.n} in run {before.run_id} and {after.n} now"
    )
    return PairChange(pair, comparison, reason, p=p, differences=differ)


def alike(before: Measured, after: Measured) -> bool:
    """Whether two measurements can be compared at all."""
    return not _why_not(before, after)


def _why_not(before: Measured, after: Measured) -> str:
    for one, when in ((after, "now"), (before, f"in run {before.run_id}")):
        if one.missing:
            return f"{one.missing} {when}"
    if (before.split or after.split) and before.n and after.n:
        why_not = _why_no_common_beginning(before, after)
        if why_not:
            return why_not
    elif before.images != after.images:
        then, now = len(before.correct), len(after.correct)
        if then and now and then != now:
            return (
                f"not the same images: {then} in run {before.run_id} and {now} now; "
                f"a gap between different subsets is no change, so measure both with the same --emt-limit"
            )
        return f"not the same images: content or labels of the image set are others than in run {before.run_id}"
    if before.scorer != after.scorer:
        return f"scored by {before.scorer} in run {before.run_id} and by {after.scorer} now; use the same --emt-scorer"
    for one in (before, after):
        if not one.n:
            return f"run {one.run_id} kept no outcome of each image (no predictions/ beside its run.json)"
    return ""


def _why_no_common_beginning(before: Measured, after: Measured) -> str:
    count = min(before.n, after.n)
    then, now = before.mark_of(count), after.mark_of(count)
    if then and now and then != now:
        return f"not the same images: the first {count} are others than in run {before.run_id}"
    if not (then and now and before.first(count, after.names) and after.first(count, before.names)):
        return (
            f"{before.n} images in run {before.run_id} and {after.n} now, one by one in one of the two alone, and the history "
            f"keeps no order of the others; `emt compare` has it from their folders"
        )
    return ""


def adjusted(changes: Sequence[PairChange]) -> tuple[PairChange, ...]:
    """Changes with Holm's adjustment over the pairs that were compared."""
    found = [change for change in changes if change.comparison and change.p is not None]
    verdicts = iter(with_holm([change.comparison for change in found if change.comparison]))
    p_values = iter(holm([change.p for change in found if change.p is not None]))
    return tuple(
        replace(change, comparison=next(verdicts), p_holm=next(p_values)) if change.comparison else change for change in changes
    )


def compare_runs(
    before: RunRecord, before_rows: Rows, after: RunRecord, after_rows: Rows, tolerance: float | None = None, name: str = ""
) -> RunChanges:
    """A run against an earlier one, pair by pair on the same images.

    Args:
        before: the earlier run.
        before_rows: its images by pair id.
        after: the later run.
        after_rows: its images by pair id.
        tolerance: the largest loss that passes; None for each pair's policy.
        name: what the earlier run is to the reader.
    """
    then = {pair.key.id: measured(before, pair, before_rows.get(pair.key.id, ())) for pair in before.pairs}
    now = {pair.key.id: measured(after, pair, after_rows.get(pair.key.id, ())) for pair in after.pairs}
    changes = [
        compare_measured(pair, then[pair], now[pair], tolerance) if pair in then and pair in now
        else PairChange(pair, None, f"not in run {before.run_id}" if pair in now else "not part of this run")
        for pair in dict.fromkeys([*now, *then])
    ]  # fmt: skip
    return RunChanges(name or f"run {before.run_id}", before.run_id, before.started, adjusted(changes))


def flips(before: Sequence[Row], after: Sequence[Row], scorer: str) -> list[Flip]:
    """Images that are right in one of two runs only, in the later one's order; of images that both have."""
    then = {(row.image, row.occurrence): row for row in before}
    found = []
    for row in after:
        earlier = then.get((row.image, row.occurrence))
        if earlier is None:
            continue
        was, is_now = earlier.correct_by(scorer), row.correct_by(scorer)
        if was is not None and is_now is not None and was != is_now:
            found.append(
                Flip(
                    row=row.row,
                    image=row.image,
                    occurrence=row.occurrence,
                    lost=was,
                    before=earlier.answer,
                    after=row.answer,
                    read_before=earlier.prediction,
                    read_after=row.prediction,
                )
            )
    return found
