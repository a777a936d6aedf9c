"""One line of the history for each pair of a run: small enough to keep for years, whole enough to pair images with."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emt_plugin.records import MARK, PairRecord, Row, RunRecord
from emt_plugin.runs.compare import Measured, Rows, measured, missing

SCHEMA = 1


@dataclass(frozen=True)
class Line:
    """One pair in one run.

    Attributes:
        run_id: the run.
        started: when it started, ISO 8601, UTC.
        pair: id of the pair.
        status: whether there is a measurement.
        reason: why there is none.
        scorer: whose outcomes these are; None without a measurement.
        reference: what gated it, ``kind:id``; None without a verdict.
        n: images.
        correct: images right; None without a measurement.
        reference_correct: images that the reference gets right; None without a verdict.
        low: lower end of the gap's 90 % interval.
        high: its upper end.
        tolerance: the largest loss that passed.
        policy: the same by policy, without accepted losses.
        verdict: None without one.
        images: hash over the evaluated images and labels.
        outcomes: a bit for each image, set where it is right, images ordered by hash and occurrence, or where they were taken
            one by one in the fixed order; base64.
        flip_rate: share of images that flipped when measured again in the same run; None without ``--emt-repeat``.
        fingerprint: what else may move the numbers, by name.
        schema: of this line.
        chance: accuracy of one who does not look; None where it is not known.
        split: images of the split, where images were taken one by one; None where their number was fixed beforehand.
        marks: where they were taken one by one, for each image the mark of the images up to it.
    """

    run_id: str
    started: str
    pair: str
    status: str
    reason: str | None
    scorer: str | None
    reference: str | None
    n: int
    correct: int | None
    reference_correct: int | None
    low: float | None
    high: float | None
    tolerance: float | None
    policy: float
    verdict: str | None
    images: str
    outcomes: str | None
    flip_rate: float | None
    fingerprint: Mapping[str, str]
    schema: int = SCHEMA
    chance: float | None = None
    split: int | None = None
    marks: str | None = None

    @property
    def accuracy(self) -> float | None:
        """Of the model, a fraction."""
        return None if self.correct is None or not self.n else self.correct / self.n

    @property
    def reference_accuracy(self) -> float | None:
        """Of the reference, a fraction."""
        return None if self.reference_correct is None or not self.n else self.reference_correct / self.n

    @property
    def measured(self) -> Measured:
        """What another run can be compared with."""
        outcomes = unpacked(self.outcomes, self.n) if self.outcomes else ()
        return Measured(
            run_id=self.run_id,
            scorer=self.scorer,
            images=self.images,
            correct=() if self.split else outcomes,
            tolerance=self.policy,
            fingerprint=self.fingerprint,
            missing=missing(self.status, self.reason),
            chance=self.chance,
            split=self.split,
            one_by_one=outcomes if self.split else (),
            marks=self.marks or "",
        )


def lines_of(run: RunRecord, rows: Rows) -> list[Line]:
    """The lines of a run.

    Args:
        run: its record.
        rows: its images by pair id.
    """
    return [_line(run, pair, rows.get(pair.key.id, ())) for pair in run.pairs]


def _line(run: RunRecord, pair: PairRecord, rows: Sequence[Row]) -> Line:
    found = measured(run, pair, rows)
    gating = pair.gating
    known = found.one_by_one if found.split else found.correct
    return Line(
        run_id=run.run_id,
        started=run.started,
        pair=pair.key.id,
        status=pair.status,
        reason=pair.reason,
        scorer=found.scorer,
        reference=gating.reference.key if gating else None,
        n=pair.n,
        correct=pair.scores[0].correct if pair.scores else None,
        reference_correct=gating.n11 + gating.n01 if gating else None,
        low=gating.low if gating else None,
        high=gating.high if gating else None,
        tolerance=gating.tolerance.value if gating else None,
        policy=found.tolerance,
        verdict=gating.verdict if gating else None,
        images=found.images,
        outcomes=packed(known) if known else None,
        flip_rate=pair.repeat.rate if pair.repeat else None,
        fingerprint=found.fingerprint,
        chance=found.chance,
        split=found.split,
        marks=found.marks or None if found.split else None,
    )


def packed(outcomes: Sequence[bool]) -> str:
    """Outcomes as base64, eight to a byte, the first in the highest bit."""
    content = bytearray(-(-len(outcomes) // 8))
    for index, right in enumerate(outcomes):
        if right:
            content[index // 8] |= 0x80 >> index % 8
    return base64.b64encode(bytes(content)).decode()


def unpacked(text: str, n: int) -> tuple[bool, ...]:
    """The inverse of ``packed``; empty where there are not as many."""
    content: Any = base64.b64decode(text)
    if len(content) != -(-n // 8):
        return ()
    return tuple(bool(content[index // 8] & 0x80 >> index % 8) for index in range(n))


def checked_line(line: Line) -> Line:
    """The line, if its values are what they should be.

    Raises:
        TypeError: a value is of another type.
        ValueError: a value means nothing.
    """
    wanted: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("run_id", "started", "pair", "status", "images"), (str,)),
        **dict.fromkeys(("reason", "scorer", "reference", "verdict", "outcomes"), (str, type(None))),
        "marks": (str, type(None)),
        **dict.fromkeys(("correct", "reference_correct", "split"), (int, type(None))),
        **dict.fromkeys(("low", "high", "tolerance", "flip_rate", "chance"), (int, float, type(None))),
        "n": (int,),
        "policy": (int, float),
        "fingerprint": (dict,),
    }
    for name, kinds in wanted.items():
        value = getattr(line, name)
        if not isinstance(value, kinds):
            raise TypeError(f"its {name} is {str(value)[:40]!r}")
    if datetime.fromisoformat(line.started).tzinfo is None:
        raise ValueError(f"its start {line.started} has no time zone")
    if not all(isinstance(value, str) for value in line.fingerprint.values()):
        raise TypeError("its fingerprint has a value that is no text")
    if line.outcomes and len(unpacked(line.outcomes, line.n)) != line.n:
        raise ValueError(f"its outcomes are not {line.n}")
    if line.marks and len(line.marks) != MARK * line.n:
        raise ValueError(f"its marks are not {line.n}")
    if line.split is not None and not line.n <= line.split:
        raise ValueError(f"its split has {line.split} images, and it has {line.n}")
    return line
