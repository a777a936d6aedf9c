"""What was measured along fine-tuning runs becomes their trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emt_plugin.analysis import Change
from emt_plugin.analysis.trajectory import Moment, StateOutcomes, Trajectory, trajectory
from emt_plugin.catalog import ImageSetSpec, TrajectorySpec
from emt_plugin.records import PairKey, PairRecord, Row
from emt_plugin.scoring.reader import Reader
from emt_plugin.scoring.tokens import words_of


def trajectories_of(
    runs: Sequence[TrajectorySpec],
    image_sets: Sequence[ImageSetSpec],
    pairs: Sequence[PairRecord],
    rows: Mapping[str, Sequence[Row]],
) -> tuple[Trajectory, ...]:
    """The trajectories of a session; none where the base was not measured on all image sets.

    Args:
        runs: what was asked for.
        image_sets: the evaluated ones, in order.
        pairs: all that there are.
        rows: the images of each pair, by its id.
    """
    measured = {pair.key: pair for pair in pairs if pair.gating and pair.status == "measured"}
    readers = label_sets([pair for pair in measured.values() if pair.key.checkpoint is None])
    found = []
    for run in runs:
        states: list[tuple[str | None, int, float | None]] = [(None, 0, 0.0)]
        states += [(state.model.checkpoint, state.step, state.epoch) for state in run.states]
        moments: list[Moment] = []
        unmeasured: list[tuple[int, str]] = []
        for checkpoint, step, epoch in states:
            here = [measured.get(PairKey(run.base.id, image_set.id, checkpoint)) for image_set in image_sets]
            whole = [pair for pair in here if pair is not None]
            if len(whole) == len(here):
                moments.append(Moment(checkpoint, step, epoch, [_seen(pair, rows[pair.key.id], readers) for pair in whole]))
            elif checkpoint is None:
                # Without the base there is nothing to change from.
                break
            else:
                unmeasured.append((len(moments), checkpoint))
        if moments:
            found.append(trajectory(run.name, run.base.id, run.method, run.trained_on, moments, unmeasured))
    return tuple(found)


def label_sets(pairs: Sequence[PairRecord]) -> dict[str, Reader]:
    """A reader for each label set among some pairs; image sets with the same labels share one, and their names."""
    named: dict[tuple[str, ...], list[str]] = {}
    for pair in pairs:
        named.setdefault(tuple(pair.labels), []).append(pair.key.image_set)
    return {" = ".join(dict.fromkeys(names)): Reader(labels) for labels, names in named.items()}


def _seen(pair: PairRecord, rows: Sequence[Row], readers: Mapping[str, Reader]) -> StateOutcomes:
    assert pair.gating is not None
    scorer = pair.gating.scorer
    score = pair.score(scorer)
    return StateOutcomes(
        image_set=pair.key.image_set,
        labels=pair.labels,
        targets=[row.label for row in rows],
        correct=[bool(row.correct_by(scorer)) for row in rows],
        # An accepted loss is a loss all the same: it does not move the checkpoint to keep.
        verdict=pair.gating.verdict_at(pair.gating.tolerance.policy),
        encoder_correct=pair.encoder.correct if pair.encoder else None,
        encoder_gap=_encoder_gap(pair, scorer),
        named=_named([row.answer for row in rows], pair.key.image_set, readers),
        well_formed=score.well_formed if score else None,
    )


def _encoder_gap(pair: PairRecord, scorer: str) -> Change | None:
    found = (c for c in pair.comparisons if c.reference.kind == "encoder" and c.scorer == scorer)
    return next((Change(comparison.gap, comparison.low, comparison.high) for comparison in found), None)


def _named(answers: Sequence[str | None], image_set: str, readers: Mapping[str, Reader]) -> dict[str, int]:
    """For each label set the answers that name exactly one of its labels; for another than the set's own, and none of its own.

    Equal answers are read once.
    """
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None and words_of(answer):
            counts[answer] = counts.get(answer, 0) + 1
    own = next(name for name in readers if image_set in name.split(" = "))
    at_home = {answer for answer in counts if readers[own].read(answer).prediction is not None}
    return {
        name: sum(
            count
            for answer, count in counts.items()
            if (answer in at_home if name == own else answer not in at_home and reader.read(answer).prediction is not None)
        )
        for name, reader in readers.items()
    }
