"""Parts of a pair by images become the pair: what one run on all of its images would have recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emt_plugin.analysis import largest_loss, steps
from emt_plugin.gate import Comparison, Reference, chance_of, compare
from emt_plugin.records import (
    Cost,
    EncoderFacts,
    PairRecord,
    Part,
    Repeat,
    Replay,
    Row,
    ScoreSummary,
    Timing,
    images_hashes,
    place_of,
)
from emt_plugin.runs.outcomes import reading, stage_outcomes, summary
from emt_plugin.runs.together import together
from emt_plugin.stats import LEVEL, wilson_interval

# What parts must share of what is known of a model and of an image set. The rest is where things are, and what a run knows only
# where it computed something.
SHARED: Mapping[str, Sequence[str]] = {
    "model": (
        "fingerprint", "revision", "architecture", "dtype", "device", "attention", "generation", "encoder", "reference",
        "rendered_prompt",
    ),
    "image set": ("kind", "config", "split", "revision", "pixels", "notes"),
}  # fmt: skip


class PartsError(ValueError):
    """Parts that do not make a pair; the message says why and what to do."""


@dataclass(frozen=True)
class PairPart:
    """A pair as one run has it.

    Attributes:
        run_id: the run.
        pair: its record.
        rows: its images.
        named: which part it is, in words.
    """

    run_id: str
    pair: PairRecord
    rows: Sequence[Row]
    named: str


def whole_pair(parts: Sequence[PairPart]) -> tuple[PairRecord, list[Row]]:
    """The pair of some parts, with its rows in the fixed order of the images.

    Where one part has no measurement, so has the pair, for that part's reason; the rows are those that there are.

    Args:
        parts: of one pair, all that there are of it, in their order.

    Raises:
        PartsError: the parts were not made alike, or their images are not those of the pair.
    """
    begun = [part for part in parts if part.pair.part]
    for part in begun[1:]:
        _refuse_unlike(begun[0], part)
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: (place_of(row.image, row.occurrence), row.row))
    lost = [part for part in parts if part.pair.status != "measured" or part.pair.part is None]
    first = begun[0] if begun else parts[0]
    if lost:
        return replace(_bare(first.pair), status=_status(lost), reason=_reason(lost, len(parts)), n=len(rows)), rows
    for part in parts:
        _check_images(part, part.rows, part.pair.n, str(part.pair.image_set_facts["fingerprint"]), part.named)
    assert first.pair.part is not None
    _check_images(first, rows, first.pair.part.n, first.pair.part.images, "all parts together")
    return _measured([part.pair for part in parts], first.pair.part, rows), rows


def _status(lost: Sequence[PairPart]) -> Any:
    """The first that is no part of a measurement; a pair that was measured otherwise is none of this one either."""
    return next((part.pair.status for part in lost if part.pair.status != "measured"), "not-run")


def _reason(lost: Sequence[PairPart], count: int) -> str:
    """Why there is no measurement; where all parts say the same, that."""
    said = dict.fromkeys(part.pair.reason or part.pair.status for part in lost)
    if len(lost) == count and len(said) == 1:
        return next(iter(said))
    more = f" (and {len(lost) - 1} more parts)" if len(lost) > 1 else ""
    return f"{lost[0].named}: {next(iter(said))}{more}"


def _bare(pair: PairRecord) -> PairRecord:
    """A part as far as it tells of the pair before its first image."""
    facts = {**pair.image_set_facts, **({"fingerprint": pair.part.images} if pair.part else {})}
    begun = {"prompt": pair.prompt, "n_split": pair.n_split, "labels": pair.labels, "model_facts": pair.model_facts}
    return PairRecord(pair.key, **begun, image_set_facts=facts)  # type: ignore[arg-type]


def _refuse_unlike(one: PairPart, other: PairPart) -> None:
    for (name, first), (_, second) in zip(_alike(one.pair), _alike(other.pair), strict=True):
        if first is not None and second is not None and first != second:
            raise PartsError(
                f"runs {one.run_id} and {other.run_id} measured parts of {one.pair.key.id} with another {name}; run them alike"
            )


def _alike(pair: PairRecord) -> list[tuple[str, Any]]:
    """What the parts of a pair must share, by name; None where a part does not say."""
    part, encoder = pair.part, pair.encoder
    assert part is not None
    measured = pair.status == "measured"
    facts = {"model": pair.model_facts, "image set": pair.image_set_facts}
    return [
        ("number of parts", part.count),
        ("selection of images", (part.n, part.images, pair.labels, pair.n_split)),
        ("prompt", pair.prompt),
        *((f"{of} ({name})", said.get(name)) for of, said in facts.items() for name in SHARED[of]),
        ("scorer", [(score.scorer, score.version) for score in pair.scores] if measured else None),
        ("encoder", replace(encoder, correct=0) if encoder else None),
        ("reference", [(found.scorer, found.reference) for found in part.against] if measured else None),
        ("gating reference", ("none" if part.gate is None else part.gate) if measured else None),
        ("tolerance", [found.tolerance for found in part.against] if measured else None),
        ("probe", part.probes if measured else None),
    ]


def _check_images(part: PairPart, rows: Sequence[Row], n: int, images: str, named: str) -> None:
    hashes = images_hashes(part.pair.labels, ((row.image, row.occurrence, row.label) for row in rows))
    if len(rows) != n or ["", *hashes][-1] != images:
        raise PartsError(
            f"the predictions of {part.pair.key.id} ({named}) are not those of its {n} images; run the part again, whole"
        )


def _measured(pairs: Sequence[PairRecord], part: Part, rows: list[Row]) -> PairRecord:
    first = pairs[0]
    encoder = Reference("encoder", first.encoder.id) if first.encoder else None
    outcomes = stage_outcomes(rows, encoder, part.probes)
    return replace(
        _bare(first),
        status="measured",
        reason=first.reason if part.gate is None else None,
        n=len(rows),
        scores=tuple(_score([pair.scores[at] for pair in pairs], rows, first.labels) for at in range(len(first.scores))),
        comparisons=_comparisons(part, rows, len(first.labels)),
        gate=part.gate,
        encoder=_encoder(first.encoder, encoder, rows),
        steps=steps(outcomes),
        largest_loss=largest_loss(outcomes),
        model_facts=_facts([pair.model_facts for pair in pairs]),
        replay=_replay([pair.replay for pair in pairs if pair.replay]),
        timing=_timing([pair.timing for pair in pairs if pair.timing]),
        repeat=_repeat([pair.repeat for pair in pairs if pair.repeat]),
        cost=_cost([pair.cost for pair in pairs if pair.cost]),
    )


def _comparisons(part: Part, rows: Sequence[Row], classes: int) -> tuple[Comparison, ...]:
    chance = chance_of([row.label for row in rows], classes)
    return tuple(
        compare(
            [bool(row.correct_by(found.scorer)) for row in rows],
            [row.reference_right(found.reference.key, found.scorer) for row in rows],
            found.reference,
            found.tolerance,
            scorer=found.scorer,
            chance=chance,
        )
        for found in part.against
    )


def _score(scores: Sequence[ScoreSummary], rows: Sequence[Row], labels: Sequence[str]) -> ScoreSummary:
    first = scores[0]
    # What the reader says of a set's answers is of all of them; another scorer's facts are of itself.
    facts = reading(first.scorer, rows, labels) or together([dict(score.facts) for score in scores])
    return summary(first.scorer, first.version, rows, first.no_class is not None, facts)


def _encoder(facts: EncoderFacts | None, encoder: Reference | None, rows: Sequence[Row]) -> EncoderFacts | None:
    if facts is None or encoder is None:
        return None
    return replace(facts, correct=sum(row.references[encoder.key] == row.label for row in rows))


def _facts(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known of the model, said together; a part that was replayed says less."""
    names = dict.fromkeys(name for known in facts for name in known)
    said = {name: [known[name] for known in facts if known.get(name) is not None] for name in names}
    return {name: together(found) if found else None for name, found in said.items()}


def _replay(found: Sequence[Replay]) -> Replay | None:
    if not found:
        return None
    since = min((replay.since for replay in found if replay.since), default=None)
    return Replay(sum(replay.replayed for replay in found), sum(replay.computed for replay in found), since)


def _timing(found: Sequence[Timing]) -> Timing | None:
    if not found:
        return None
    return Timing(
        round(sum(timing.cpu_seconds for timing in found), 3),
        round(sum(timing.wall_seconds for timing in found), 3),
        sum(timing.new_tokens for timing in found),
    )


def _repeat(found: Sequence[Repeat]) -> Repeat | None:
    if not found:
        return None
    n, flips = sum(repeat.n for repeat in found), sum(repeat.flips for repeat in found)
    low, high = wilson_interval(flips, n, LEVEL)
    correct = tuple(map(sum, zip(*(repeat.correct for repeat in found), strict=True)))
    return Repeat(found[0].passes, n, sum(repeat.answers for repeat in found), flips, flips / n, low, high, correct)


def _cost(found: Sequence[Cost]) -> Cost | None:
    return sum(found[1:], found[0]) if found else None
