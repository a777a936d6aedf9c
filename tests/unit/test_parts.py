"""Parts of a pair by images become the pair, by a plain loop over all rows; what was not made alike is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.evaluation.written import in_part
from emt_plugin.gate import Reference, Tolerance, compare
from emt_plugin.records import (
    Cost,
    EncoderFacts,
    PairKey,
    PairRecord,
    Part,
    Repeat,
    Replay,
    Row,
    ScoreSummary,
    Timing,
    images_hashes,
)
from emt_plugin.runs.parts import PairPart, PartsError, whole_pair
from emt_plugin.stats import wilson_interval

LABELS = ("a", "b")
CLIP = Reference("encoder", "clip")
TOLERANCE = Tolerance(0.05, "default", 0.05)
Outcomes = Sequence[tuple[bool, bool, bool]]


def rows_of(outcomes: Outcomes) -> list[Row]:
    """Rows in the fixed order: whether each is right, its encoder is, and whether it is its content's second."""
    rows: list[Row] = []
    for number, (right, encoder, second) in enumerate(outcomes):
        image = rows[-1].image if second and rows and not rows[-1].occurrence else sha256(f"{number}".encode()).hexdigest()
        score = {"prediction": 0 if right else 1, "correct": right, "kind": None if right else "wrong class",
                 "well_formed": True, "detail": None}  # fmt: skip
        rows.append(
            Row(number, image, int(any(row.image == image for row in rows)), 0, "An a." if right else "A b.", 0 if right else 1,
                right, None, True, {"encoder:clip": 0 if encoder else 1}, 2, {"answer": score})
        )  # fmt: skip
    # The published rule, written out again.
    return sorted(rows, key=lambda row: sha256(f"emt-subset-1:{row.image}:{row.occurrence}".encode()).digest())


def fingerprint(rows: Sequence[Row]) -> str:
    return [*images_hashes(LABELS, ((row.image, row.occurrence, row.label) for row in rows))][-1]


def part_of(rows: Sequence[Row], index: int, count: int, **changed: Any) -> PairPart:
    """A part as a run records it."""
    mine = rows[index - 1 :: count]
    right, encoder = ([row.correct for row in mine], [row.references["encoder:clip"] == 0 for row in mine])
    pair = PairRecord(
        PairKey("model", "set"), prompt="What?", status="measured", n=len(mine), n_split=999, labels=LABELS,
        scores=(ScoreSummary("answer", "1", sum(right), 0, len(mine), ()),),
        comparisons=(compare(right, encoder, CLIP, TOLERANCE, chance=1.0),), gate=0,
        encoder=EncoderFacts("clip", "catalog", "own encoder", True, sum(encoder)),
        model_facts={"fingerprint": "w", "dtype": "float32"}, image_set_facts={"fingerprint": fingerprint(mine)},
        replay=Replay(index, len(mine), f"2026-01-0{1 + index % 9}"), timing=Timing(1.5, 2.0, 2 * len(mine)),
        part=Part(index, count, len(rows), fingerprint(rows)),
    )  # fmt: skip
    return PairPart(f"run{index}", replace(in_part(pair, ""), **changed), mine, f"part {index} of {count}")


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30), st.data())
def test_parts_are_what_a_plain_loop_over_all_rows_finds(outcomes: Outcomes, data: st.DataObject) -> None:
    rows = rows_of(outcomes)
    count = data.draw(st.integers(1, len(rows)))
    parts = [part_of(rows, index, count) for index in range(1, count + 1)]
    pair, found = whole_pair(data.draw(st.permutations(parts)))
    assert found == rows
    (comparison,) = pair.comparisons
    cells = [(row.correct, row.references["encoder:clip"] == 0) for row in rows]
    assert (comparison.n11, comparison.n10, comparison.n01, comparison.n00) == tuple(
        cells.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))
    )
    assert comparison.tolerance == TOLERANCE
    assert (pair.status, pair.gate, pair.part, pair.n) == ("measured", 0, None, len(rows))
    assert pair.scores[0].correct == sum(row.correct for row in rows)
    assert pair.encoder is not None
    assert pair.encoder.correct == sum(encoder for _, encoder in cells)
    assert pair.image_set_facts["fingerprint"] == fingerprint(rows)


def test_a_part_keeps_nothing_that_reads_as_a_verdict() -> None:
    pair = part_of(rows_of([(True, True, False)] * 9), 2, 3).pair
    assert (pair.comparisons, pair.gate, pair.gating, pair.steps, pair.largest_loss) == ((), None, None, (), None)
    assert pair.is_awaited
    assert pair.reason == "part 2 of 3 by images, which has no verdict of its own: `emt merge` joins the parts"
    assert PairRecord.from_json(pair.to_json()) == pair


def test_costs_times_and_repeats_are_sums() -> None:
    rows = rows_of([(True, True, False)] * 10)
    low, high = wilson_interval(1, 5, 0.9)
    first = part_of(rows, 1, 2, cost=Cost(5, 1, 100, 10, 0.5), repeat=Repeat(2, 5, 1, 1, 0.2, low, high, (5, 4)))
    second = part_of(rows, 2, 2, cost=Cost(6, 0, 120, 12, None), repeat=Repeat(2, 5, 3, 2, 0.4, 0.0, 1.0, (5, 3)))
    pair, _ = whole_pair([first, second])
    assert pair.cost == Cost(11, 1, 220, 22, 0.5)
    low, high = wilson_interval(3, 10, 0.9)
    assert pair.repeat == Repeat(2, 10, 4, 3, 0.3, low, high, (10, 7))
    assert pair.timing == Timing(3.0, 4.0, 20)
    assert pair.replay == Replay(3, 10, "2026-01-02")


def test_a_part_without_a_measurement_leaves_the_pair_without_one() -> None:
    rows = rows_of([(True, True, False)] * 6)
    first, second = part_of(rows, 1, 2), part_of(rows, 2, 2)
    crashed = replace(second, pair=replace(second.pair, status="crashed", reason="its worker crashed"), rows=second.rows[:1])
    pair, found = whole_pair([first, crashed])
    assert (pair.status, pair.reason, pair.n) == ("crashed", "part 2 of 2: its worker crashed", 4)
    assert (pair.scores, pair.comparisons, pair.gate) == ((), (), None)
    assert [row.row for row in found] == [row.row for row in rows if row in [*first.rows, *crashed.rows]]
    gone = PairRecord(PairKey("model", "set"), status="could-not-run", reason="no such model")
    pair, found = whole_pair([PairPart(f"run{index}", gone, [], f"part {index} of 2") for index in (1, 2)])
    assert (pair.status, pair.reason, found) == ("could-not-run", "no such model", [])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"prompt": "Which?"}, "another prompt"),
        ({"n_split": 998}, "another selection of images"),
        ({"model_facts": {"fingerprint": "w", "dtype": "float16"}}, r"another model \(dtype\)"),
        ({"model_facts": {"fingerprint": "v", "dtype": "float32"}}, r"another model \(fingerprint\)"),
        ({"scores": (ScoreSummary("answer", "2", 3, 0, 3, ()),)}, "another scorer"),
        ({"encoder": EncoderFacts("siglip", "catalog", "own encoder", True, 3)}, "another encoder"),
        ({"part": {"gate": None}}, "another gating reference"),
        ({"part": {"images": "others"}}, "another selection of images"),
        ({"part": {"probes": "fitted on 9 training images"}}, "another probe"),
    ],
)
def test_parts_that_were_not_made_alike_are_refused(changed: dict[str, Any], says: str) -> None:
    rows = rows_of([(True, True, False)] * 6)
    other = part_of(rows, 2, 2)
    assert other.pair.part is not None
    fields = {name: replace(other.pair.part, **value) if name == "part" else value for name, value in changed.items()}
    with pytest.raises(PartsError, match=f"runs run1 and run2 measured parts of model/set with {says}; run them alike"):
        whole_pair([part_of(rows, 1, 2), replace(other, pair=replace(other.pair, **fields))])


def test_another_tolerance_is_refused() -> None:
    rows = rows_of([(True, True, False)] * 6)
    other = part_of(rows, 2, 2)
    assert other.pair.part is not None
    against = replace(other.pair.part.against[0], tolerance=Tolerance(0.2, "--emt-tolerance", 0.2))
    pair = replace(other.pair, part=replace(other.pair.part, against=(against,)))
    with pytest.raises(PartsError, match="with another tolerance"):
        whole_pair([part_of(rows, 1, 2), replace(other, pair=pair)])


def test_rows_that_are_not_the_parts_own_are_refused() -> None:
    rows = rows_of([(True, True, False)] * 6)
    first, second = part_of(rows, 1, 2), part_of(rows, 2, 2)
    for wrong in (second.rows[:-1], [*second.rows[:-1], replace(second.rows[-1], label=1)], [*second.rows, first.rows[0]], []):
        with pytest.raises(PartsError, match=r"\(part 2 of 2\) are not those of its 3 images; run the part again"):
            whole_pair([first, replace(second, rows=wrong)])
