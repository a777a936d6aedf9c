"""Runs that stopped at different images: their common beginning is compared, from folders and from the history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from emt_plugin.gate import Reference, Tolerance, compare, compare_in_order
from emt_plugin.records import PairChange, PairRecord, Row, RunRecord
from emt_plugin.report.words.since import since
from emt_plugin.runs.compare import compare_runs
from emt_plugin.runs.history import HistoryError, append, read_history
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.since import changes_since, trends_of
from emt_plugin.stats import sequential_p
from tests.unit.test_history import outcomes, pair_of, rows_of, run_of

SPLIT = 1000
GOOD = outcomes(400, 0)
# The images 100 to 139 are lost.
LOST = [*outcomes(100, 40), *outcomes(260, 0)]


def fingerprint(rows: Sequence[Row]) -> str:
    """What an image set says of its images."""
    text = "a\0b" + "".join(f"{row.image}:{row.occurrence}:{row.label};" for row in rows)
    return sha256(text.encode()).hexdigest()


def taken(right: Sequence[bool], *, one_by_one: bool = True) -> tuple[PairRecord, list[Row]]:
    """A pair with its rows, in an order that is not that of their hashes."""
    rows = [replace(row, image=sha256(f"{place}".encode()).hexdigest()) for place, row in enumerate(rows_of(list(right)))]
    pair = pair_of("s", list(right), images=fingerprint(rows))
    against, tolerance = Reference("encoder", "clip"), Tolerance(0.05, "default", 0.05)
    made = compare_in_order(right, [True] * len(right), against, tolerance, SPLIT)
    if not one_by_one:
        made = compare(right, [True] * len(right), against, tolerance)
    return replace(pair, comparisons=(made,), n_split=SPLIT), rows


def night(name: str, day: int, right: Sequence[bool], *, one_by_one: bool = True) -> tuple[RunRecord, dict[str, list[Row]]]:
    pair, rows = taken(right, one_by_one=one_by_one)
    return run_of(name, f"2026-01-{day:02}", pair), {pair.key.id: rows}


def by_folders(first: Sequence[bool], second: Sequence[bool], **how: bool) -> PairChange:
    one, two = night("one", 1, first), night("two", 2, second, **how)
    return compare_runs(*one, *two).pairs[0]


def by_history(folder: Path, first: Sequence[bool], second: Sequence[bool]) -> PairChange:
    one, two = night("one", 1, first), night("two", 2, second)
    append(folder / "history.jsonl", lines_of(*one))
    return changes_since(read_history(folder / "history.jsonl"), lines_of(*two))[0].pairs[0]


@pytest.mark.parametrize(("then", "now"), [(400, 300), (300, 400), (400, 400), (120, 400)])
def test_the_images_that_both_have_are_compared(tmp_path: Path, then: int, now: int) -> None:
    count = min(then, now)
    lost = min(count, 140) - 100
    for found in (by_folders(GOOD[:then], LOST[:now]), by_history(tmp_path, GOOD[:then], LOST[:now])):
        comparison = found.comparison
        assert comparison is not None, found.reason
        assert (comparison.n, comparison.n01, comparison.n10) == (count, lost, 0)
        assert comparison.sequential is not None
        assert (comparison.sequential.stopped_at, comparison.sequential.of) == (count, SPLIT)
        by_hand = compare_in_order(LOST[:count], GOOD[:count], comparison.reference, comparison.tolerance, SPLIT)
        assert (comparison.low, comparison.high, comparison.verdict) == (by_hand.low, by_hand.high, by_hand.verdict)
        assert found.p == sequential_p([int(is_now) - 1 for is_now in LOST[:count]], SPLIT)
        assert found.differences == ()
        wanted = None if then == now else f"on the first {count} images of the order, of {then} in run one and {now} now"
        assert found.reason == wanted


def test_other_images_have_no_common_beginning(tmp_path: Path) -> None:
    one, (run, rows) = night("one", 1, GOOD), night("two", 2, GOOD[:300])
    others = [replace(row, label=1) if row.row == 5 else row for row in rows["model/s"]]
    facts = {**run.pairs[0].image_set_facts, "fingerprint": fingerprint(others)}
    run = replace(run, pairs=(replace(run.pairs[0], image_set_facts=facts),))
    append(tmp_path / "history.jsonl", lines_of(*one))
    by_lines = changes_since(read_history(tmp_path / "history.jsonl"), lines_of(run, {"model/s": others}))[0].pairs[0]
    for found in (compare_runs(*one, run, {"model/s": others}).pairs[0], by_lines):
        assert found.comparison is None
        assert found.reason == "not the same images: the first 300 are others than in run one"


def test_a_run_of_a_fixed_number_has_its_order_in_its_folder_alone(tmp_path: Path) -> None:
    found = by_folders(GOOD[:300], LOST, one_by_one=False)
    assert found.comparison is not None
    assert (found.comparison.n, found.comparison.n01) == (300, 40)
    one = night("one", 1, GOOD, one_by_one=False)
    append(tmp_path / "history.jsonl", lines_of(*one))
    # Some of its images, and all of them.
    for count in (300, 400):
        two = night("two", 2, LOST[:count])
        (changes,) = changes_since(read_history(tmp_path / "history.jsonl"), lines_of(*two))
        assert changes.pairs[0].comparison is None
        assert "`emt compare` has it from their folders" in str(changes.pairs[0].reason)
        (found,) = compare_runs(*one, *two).pairs
        assert found.comparison is not None
        assert (found.comparison.n, found.comparison.n01) == (count, 40)


def test_the_trend_says_so_and_more_images_are_no_other_images(tmp_path: Path) -> None:
    one, two = night("one", 1, GOOD), night("two", 2, GOOD[:300])
    append(tmp_path / "history.jsonl", lines_of(*one))
    past, lines = read_history(tmp_path / "history.jsonl"), lines_of(*two)
    (trend,) = trends_of(past, lines)
    assert [(point.n, point.sequential, point.changed) for point in trend.points] == [(400, True, ()), (300, True, ())]
    run = replace(two[0], changes=changes_since(past, lines))
    said = [line.text for line in since(run.changes[0], run)]
    assert said == ["model/s: no image changed; on the first 300 images of the order, of 400 in run one and 300 now"]


def test_lines_from_before_are_read_and_torn_marks_are_not(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(path, lines_of(*night("one", 1, GOOD)))
    entry = json.loads(path.read_text())
    assert len(entry["marks"]) == 4 * 400
    path.write_text(json.dumps({name: value for name, value in entry.items() if name not in ("split", "marks")}) + "\n")
    assert read_history(path).lines[0].split is None
    for wrong in ({"marks": entry["marks"][4:]}, {"split": 399}):
        path.write_text(json.dumps({**entry, **wrong}) + "\n")
        with pytest.raises(HistoryError, match=r"its marks are not 400|its split has 399 images"):
            read_history(path)
