"""A run beside earlier ones: the same images paired, other subsets refused, and a file that several writers share."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from emt_plugin.gate import Reference, Tolerance, compare
from emt_plugin.records import PairChange, PairKey, PairRecord, Row, RunRecord, ScoreSummary
from emt_plugin.runs.compare import compare_runs, flips
from emt_plugin.runs.history import HistoryError, append, check_appendable, pin, read_history
from emt_plugin.runs.lines import lines_of, packed, unpacked
from emt_plugin.runs.since import changes_since, trends_of
from emt_plugin.stats import mcnemar

ENVIRONMENT = {"packages": {"torch": "2.13.0"}, "platform": "Linux x86_64", "python": "3.11.2", "pytest_emt": "0.1.0"}


def rows_of(outcomes: list[bool], images: int | None = None) -> list[Row]:
    """One row for each outcome, every image with its own hash, every label the first of two."""
    return [
        Row(index, f"hash{index:04}", 0, 0, f"answer {right}", 0 if right else 1, right, None if right else "wrong class",
            True, {"encoder:clip": 0}, 3, {"answer": {"prediction": 0 if right else 1, "correct": right, "kind": None}})
        for index, right in enumerate(outcomes[: images or len(outcomes)])
    ]  # fmt: skip


def pair_of(name: str, outcomes: list[bool], *, images: str = "images-1", weights: str = "w1", **facts: str) -> PairRecord:
    comparison = compare(outcomes, [True] * len(outcomes), Reference("encoder", "clip"), Tolerance(0.05, "default", 0.05))
    return PairRecord(
        key=PairKey("model", name), prompt="What?", status="measured", n=len(outcomes), n_split=9999, labels=("a", "b"),
        scores=(ScoreSummary("answer", "1", sum(outcomes), 0, None, ()),), comparisons=(comparison,), gate=0,
        model_facts={"fingerprint": weights, "dtype": "float32", **facts}, image_set_facts={"fingerprint": images},
    )  # fmt: skip


def run_of(run_id: str, started: str, *pairs: PairRecord, torch: str = "2.13.0") -> RunRecord:
    environment = {**ENVIRONMENT, "packages": {"torch": torch}}
    return RunRecord(run_id, f"{started}T02:00:00+00:00", 1.0, True, 0, None, {}, environment, pairs)


def outcomes(right: int, wrong: int) -> list[bool]:
    return [True] * right + [False] * wrong


def changes(before: list[bool], after: list[bool], **facts: str) -> PairChange:
    first, second = run_of("one", "2026-01-01", pair_of("s", before)), run_of("two", "2026-01-02", pair_of("s", after, **facts))
    return compare_runs(first, {"model/s": rows_of(before)}, second, {"model/s": rows_of(after)}).pairs[0]


def test_pairs_images_by_hand() -> None:
    # Images 0-79 stay right, 80-89 are lost, 90-92 are gained, 93-99 stay wrong.
    before = outcomes(90, 10)
    after = [*outcomes(80, 10), *outcomes(3, 7)]
    found = changes(before, after)
    assert found.comparison is not None
    assert (found.comparison.n11, found.comparison.n01, found.comparison.n10, found.comparison.n00) == (80, 10, 3, 7)
    assert found.comparison.gap == pytest.approx(-0.07)
    assert found.moved == "worse"
    # McNemar, exact: 2 (1 + 13 + 78 + 286) / 8192.
    assert found.p == 2 * 378 / 8192
    assert found.may_be_chance


def test_the_order_of_the_rows_does_not_matter() -> None:
    before, after = outcomes(90, 10), [*outcomes(80, 10), *outcomes(3, 7)]
    first, second = run_of("one", "2026-01-01", pair_of("s", before)), run_of("two", "2026-01-02", pair_of("s", after))
    found = compare_runs(first, {"model/s": rows_of(before)[::-1]}, second, {"model/s": rows_of(after)}).pairs[0]
    assert found.comparison is not None
    assert (found.comparison.n01, found.comparison.n10) == (10, 3)


def test_another_subset_is_refused_with_the_reason() -> None:
    found = changes(outcomes(90, 10), outcomes(45, 5), images="images-of-another-limit")
    assert found.comparison is None
    assert found.reason is not None
    assert "100 in run one and 50 now" in found.reason
    assert "--emt-limit" in found.reason


def test_other_content_another_scorer_and_missing_rows_are_refused() -> None:
    same = outcomes(9, 1)
    assert "content or labels" in str(changes(same, same, images="other").reason)
    first, second = run_of("one", "2026-01-01", pair_of("s", same)), run_of("two", "2026-01-02", pair_of("s", same))
    assert "no predictions/" in str(compare_runs(first, {}, second, {"model/s": rows_of(same)}).pairs[0].reason)
    judged = replace(second.pairs[0], scores=(ScoreSummary("judge", "1", 9, None, None, ()),))
    ruled = [replace(row, scores={"judge": {"correct": row.correct}}) for row in rows_of(same)]
    found = compare_runs(first, {"model/s": rows_of(same)}, replace(second, pairs=(judged,)), {"model/s": ruled}).pairs[0]
    assert "scored by answer in run one and by judge now" in str(found.reason)


def test_what_differs_is_said_and_nothing_else() -> None:
    same = outcomes(90, 10)
    assert changes(same, same).differences == ()
    found = {(d.name, d.before, d.after) for d in changes(same, same, weights="w2", dtype="bfloat16").differences}
    assert found == {("model weights", "w1", "w2"), ("dtype", "float32", "bfloat16")}


def test_pairs_of_one_run_only_are_named() -> None:
    same = outcomes(9, 1)
    first, second = run_of("one", "2026-01-01", pair_of("old", same)), run_of("two", "2026-01-02", pair_of("new", same))
    found = compare_runs(first, {}, second, {})
    assert [(pair.pair, pair.reason) for pair in found.pairs] == [
        ("model/new", "not in run one"),
        ("model/old", "not part of this run"),
    ]


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-6)


def test_flips_both_ways() -> None:
    found = flips(rows_of([True, True, False, False]), rows_of([True, False, True, False]), "answer")
    assert [(flip.row, flip.lost, flip.before, flip.after) for flip in found] == [
        (1, True, "answer True", "answer False"),
        (2, False, "answer False", "answer True"),
    ]


@given(st.lists(st.booleans(), max_size=70))
def test_outcomes_survive_packing(found: list[bool]) -> None:
    assert list(unpacked(packed(found), len(found))) == found


def test_outcomes_by_hand() -> None:
    # 10100000 1....... is 0xa0 0x80.
    assert packed([True, False, True, False, False, False, False, False, True]) == "oIA="


def nights(path: Path) -> tuple[RunRecord, RunRecord]:
    """Three runs: the released one, last night's and this one, the first two in the file."""
    good, worse = outcomes(95, 5), outcomes(70, 30)
    release = run_of("r", "2026-01-01", pair_of("a", good), pair_of("b", good))
    last = run_of("l", "2026-01-08", pair_of("a", good), pair_of("b", worse))
    for run in (release, last):
        rows = {pair.key.id: rows_of(outcomes(int(pair.scores[0].correct), 100 - pair.scores[0].correct)) for pair in run.pairs}
        append(path, lines_of(run, rows))
    return release, last


def test_last_night_and_the_pinned_release(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    pin(path, "r", "1.0")
    now = run_of("n", "2026-01-09", pair_of("a", outcomes(70, 30)), pair_of("b", outcomes(70, 30)), torch="2.14.0")
    lines = lines_of(now, {"model/a": rows_of(outcomes(70, 30)), "model/b": rows_of(outcomes(70, 30))})
    night, release = changes_since(read_history(path), lines)
    assert (night.name, night.run_id) == ("last night", "l")
    assert (release.name, release.run_id) == ("release 1.0", "r")
    assert [change.moved for change in night.pairs] == ["worse", "same"]
    # A slow loss that last night had already does not hide behind last night.
    assert [change.moved for change in release.pairs] == ["worse", "worse"]
    assert [d.name for d in night.pairs[0].differences] == ["torch"]
    trend = trends_of(read_history(path), lines)[1]
    assert [point.accuracy for point in trend.points] == [0.95, 0.70, 0.70]
    assert [point.changed for point in trend.points] == [(), (), ("torch",)]
    assert [point.release for point in trend.points] == ["1.0", None, None]


def test_a_pair_that_crashed_last_night_is_compared_with_the_night_before(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    release, _ = nights(path)
    crashed = PairRecord(PairKey("model", "a"), status="crashed", reason="its worker crashed")
    other = pair_of("b", outcomes(70, 30))
    append(path, lines_of(run_of("c", "2026-01-09", crashed, other), {"model/b": rows_of(outcomes(70, 30))}))
    rows = {"model/a": rows_of(outcomes(95, 5)), "model/b": rows_of(outcomes(70, 30))}
    now = lines_of(run_of("n", "2026-01-10", release.pairs[0], other), rows)
    (night,) = changes_since(read_history(path), now)
    assert night.run_id == "c"
    assert night.pairs[0].comparison is not None
    assert night.pairs[0].reason == "not measured in run c; compared with run l"


def test_a_pair_that_crashes_now_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    crashed = PairRecord(PairKey("model", "a"), status="crashed", reason="its worker crashed")
    (night,) = changes_since(read_history(path), lines_of(run_of("n", "2026-01-09", crashed), {}))
    assert [(pair.pair, pair.reason) for pair in night.pairs] == [
        ("model/a", "crashed (its worker crashed) now"),
        ("model/b", "not part of this run"),
    ]


def write_many(path: Path, who: int) -> None:
    for night in range(20):
        run = run_of(f"w{who}-{night}", f"2026-01-{night + 1:02}", pair_of("a", outcomes(95, 5)), pair_of("b", outcomes(9, 1)))
        append(path, lines_of(run, {"model/a": rows_of(outcomes(95, 5))}))


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read_history(path)
    assert found.torn == 0
    assert len(found.lines) == 2 * 20 * 2
    assert {line.run_id for line in found.lines} == {f"w{who}-{night}" for who in range(2) for night in range(20)}
    # The lines of one run stand together: nobody wrote between them.
    written = [json.loads(line)["run_id"] for line in path.read_text().splitlines()]
    assert all(written[at] == written[at + 1] for at in range(0, len(written), 2))


def test_a_torn_line_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    release, _ = nights(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    append(path, lines_of(replace(release, run_id="after"), {}))
    found = read_history(path)
    assert found.torn == 1
    assert [line.run_id for line in found.lines if line.pair == "model/b"] == ["r", "after"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json\n", "is no history"),
        ('{"a": 1}\n', "is no line of a history"),
        ('{"schema": 7}\n', "has schema 7, and this version reads 1"),
        ('{"schema": 1}\n', "it lacks 'run_id'"),
        ("[1]\n", "is no line of a history"),
    ],
)
def test_a_file_that_is_no_history_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(content)
    with pytest.raises(HistoryError, match=message):
        check_appendable(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="name another file with --emt-history"):
        check_appendable(tmp_path / "file" / "history.jsonl")


def test_only_a_known_run_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    with pytest.raises(HistoryError, match=f"{path.name} has no run 'x' that measured anything; its last ones: r, l"):
        pin(path, "x", "1.0")
    assert os.path.getsize(path) > 0


def test_a_night_that_measured_nothing_is_not_last_night(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    _, last = nights(path)
    stopped = (PairRecord(PairKey("model", name), status="not-run", reason="the run ended before it") for name in "ab")
    append(path, lines_of(run_of("stopped", "2026-01-09", *stopped), {}))
    rows = {"model/a": rows_of(outcomes(95, 5)), "model/b": rows_of(outcomes(70, 30))}
    (night,) = changes_since(read_history(path), lines_of(replace(last, run_id="n", started="2026-01-10T02:00:00+00:00"), rows))
    assert night.run_id == "l"
    with pytest.raises(HistoryError, match="measured anything"):
        pin(path, "stopped", "1.0")


def test_one_run_on_other_images_does_not_hide_the_night_before(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    few = run_of("few", "2026-01-09", pair_of("a", outcomes(9, 1), images="few"))
    append(path, lines_of(few, {"model/a": rows_of(outcomes(9, 1))}))
    now = lines_of(run_of("n", "2026-01-10", pair_of("a", outcomes(90, 10))), {"model/a": rows_of(outcomes(90, 10))})
    (night,) = changes_since(read_history(path), now)
    assert night.pairs[0].comparison is not None
    assert night.pairs[0].reason == "on other images or by another scorer in run few; compared with run l"


def test_another_reference_is_marked_in_the_trend(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    pair = pair_of("a", outcomes(95, 5))
    against = replace(pair.comparisons[0], reference=Reference("model", "base"))
    now = lines_of(run_of("n", "2026-01-10", replace(pair, comparisons=(against,))), {"model/a": rows_of(outcomes(95, 5))})
    assert trends_of(read_history(path), now)[0].points[-1].changed == ("reference",)


def test_a_full_disk_leaves_no_half_run(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    before = path.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from emt_plugin.runs.history import append, read_history, HistoryError\n"
        "path = Path(sys.argv[1]); lines = read_history(path).lines\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 700,) * 2)\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: append(path, lines)\nexcept HistoryError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write the history" in done.stdout
    assert path.read_bytes() == before


def test_two_histories_put_together_count_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    path.write_bytes(path.read_bytes() * 2)
    assert len(read_history(path).lines) == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("started", 5, "its started is '5'"),
        ("started", "2026-01-01T02:00:00", "has no time zone"),
        ("n", "100", "its n is '100'"),
        ("fingerprint", None, "its fingerprint is 'None'"),
        ("outcomes", "abc", "line 1: "),
        ("outcomes", "AAAA", "its outcomes are not 100"),
    ],
)
def test_a_line_with_a_strange_value_is_refused(tmp_path: Path, name: str, value: object, message: str) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), name: value}), *rest]))
    with pytest.raises(HistoryError, match=message):
        read_history(path)


def test_changes_survive_the_record(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    nights(path)
    now = run_of("n", "2026-01-09", pair_of("a", outcomes(70, 30)), torch="2.14.0")
    lines = lines_of(now, {"model/a": rows_of(outcomes(70, 30))})
    run = replace(now, changes=changes_since(read_history(path), lines), trends=trends_of(read_history(path), lines))
    run.write(tmp_path)
    assert RunRecord.read(tmp_path) == run
