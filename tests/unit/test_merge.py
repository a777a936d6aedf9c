"""Shards become one run, or are refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emt_plugin.cli import main
from emt_plugin.gate import with_holm
from emt_plugin.records import PairKey, PairRecord, RunRecord, Shard, read_predictions, write_predictions
from emt_plugin.runs.merging import MergeError, joined, merge
from tests.unit.test_history import outcomes, pair_of, rows_of, run_of

ALL = ("model/a", "model/b", "model/c")


def shard(index: int, *names: str, right: int = 95, code: int = 0, of: tuple[str, ...] = ALL, count: int = 2) -> RunRecord:
    pairs = [pair_of(name, outcomes(right, 100 - right)) for name in names]
    run = run_of(f"run{index}", f"2026-01-0{index}", *pairs)
    return replace(
        run, exit_code=code, shard=Shard(index, count, of), settings={"models": ["model"], "image_sets": list(names)}
    )


def test_two_shards_are_one_run() -> None:
    run = joined([shard(2, "b", right=100), shard(1, "a", "c", right=100)])
    assert [pair.key.id for pair in run.pairs] == list(ALL)
    assert (run.exit_code, run.complete, run.reason) == (0, True, None)
    assert run.merged_from == ("run2", "run1")
    assert run.started == "2026-01-01T02:00:00+00:00"
    assert run.settings["image_sets"] == ["b", "a", "c"]
    assert run.seconds == 2.0


def test_holm_is_over_all_pairs_again() -> None:
    runs = [shard(1, "a", "c", right=70, code=1), shard(2, "b", right=85, code=1)]
    run = joined(runs)
    expected = with_holm([pair.comparisons[0] for pair in sorted((p for r in runs for p in r.pairs), key=lambda p: p.key.id)])
    assert [pair.gating for pair in run.pairs] == list(expected)
    assert run.exit_code == 1


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([shard(1, "a", "c")], "shard 2/2 is missing; run it with --emt-shard 2/2"),
        ([shard(1, "a"), shard(2, "b")], "no run has model/c; run its shard again"),
        ([shard(1, "a", "c"), replace(shard(1, "a"), run_id="again")], "runs run1 and again both have model/a"),
        ([shard(1, "a", "c"), shard(1, "a", "c")], "a run is named twice"),
        ([shard(1, "a", "c"), shard(2, "b", count=3)], "run run2 is no part of the same 2 shards"),
        ([shard(1, "a", "c"), replace(shard(2, "b"), shard=None)], "run run2 is no part of the same 2 shards"),
        ([shard(1, "a", "c"), replace(shard(2, "b"), settings={"tolerance": 0.2})], "were made with another tolerance"),
    ],
)
def test_overlaps_holes_and_strangers_are_refused(runs: list[RunRecord], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        joined(runs)


def test_without_shards_the_grid_must_be_whole() -> None:
    first, second = (replace(run, shard=None) for run in (shard(1, "a", "c"), shard(2, "b")))
    other = replace(pair_of("a", outcomes(9, 1)), key=PairKey("other", "a"))
    assert len(joined([first, second]).pairs) == 3
    alone = replace(second, run_id="third", pairs=(other,))
    with pytest.raises(MergeError, match=r"no run has other/b \(and 1 more\); run it, or join with --no-grid"):
        joined([first, second, alone])
    assert len(joined([first, second, alone], grid=False).pairs) == 4


@pytest.mark.parametrize(("codes", "expected"), [((0, 7), 7), ((1, 7), 1), ((3, 1), 3), ((2, 0), 2), ((0, 1), 1)])
def test_the_exit_code_is_the_worst_of_its_parts(codes: tuple[int, int], expected: int) -> None:
    # 95 of 100 against 100 is INCONCLUSIVE at 5 points; 70 is FAIL; 100 is PASS.
    right = {0: 100, 7: 95, 1: 70, 3: 100, 2: 100}
    runs = [shard(index, *names, right=right[code], code=code) for index, names, code in
            zip((1, 2), (("a", "c"), ("b",)), codes, strict=True)]  # fmt: skip
    assert joined(runs).exit_code == expected


def test_a_pair_that_crashed_in_a_shard_is_no_hole_and_no_pass() -> None:
    crashed = PairRecord(PairKey("model", "b"), status="crashed", reason="its worker crashed")
    broken = replace(shard(2), pairs=(crashed,), complete=False, exit_code=3, reason="model/b: its worker crashed")
    run = joined([shard(1, "a", "c", right=100), broken])
    assert (run.exit_code, run.complete, run.reason) == (3, False, "model/b: its worker crashed")


def test_other_weights_under_one_name_are_refused() -> None:
    other = replace(shard(2, "b"), pairs=(pair_of("b", outcomes(95, 5), weights="w2"),))
    with pytest.raises(MergeError, match="runs run1 and run2 measured other weights as model"):
        joined([shard(1, "a", "c"), other])


def test_no_pair_is_no_pass() -> None:
    empty = replace(shard(1), pairs=(), shard=None)
    assert joined([empty]).exit_code == 3
    assert joined([replace(shard(1, "a", right=100, code=7), shard=None)]).exit_code == 7


def test_versions_that_differ_are_all_said() -> None:
    other = replace(shard(2, "b"), environment={"packages": {"torch": "2.14.0"}, "python": "3.11.2"})
    run = joined([shard(1, "a", "c"), other])
    assert run.environment["packages"] == {"torch": "2.13.0 / 2.14.0"}
    assert run.environment["python"] == "3.11.2"


def written(folder: Path, run: RunRecord) -> Path:
    folder.mkdir(parents=True)
    run.write(folder)
    for pair in run.pairs:
        right = pair.scores[0].correct
        write_predictions(folder, pair.key.file_name, rows_of(outcomes(right, pair.n - right)))
    (folder / "thumbs").mkdir()
    (folder / "thumbs" / f"{run.run_id}.png").write_bytes(b"picture")
    return folder


def test_the_folder_of_the_joined_run_is_whole(tmp_path: Path) -> None:
    first = written(tmp_path / "parts" / "1" / "run1", shard(1, "a", "c", right=100))
    second = written(tmp_path / "parts" / "2", shard(2, "b", right=100))
    history = tmp_path / "history.jsonl"
    run, folder = merge([first.parent, second], tmp_path / "out", history=history)
    assert RunRecord.read(folder) == run
    assert {pair.key.id: len(read_predictions(folder, pair.key.file_name)) for pair in run.pairs} == dict.fromkeys(ALL, 100)
    assert sorted(path.name for path in (folder / "thumbs").iterdir()) == ["run1.png", "run2.png"]
    assert len(history.read_text().splitlines()) == 3


def test_the_command_exits_as_the_joined_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path / "parts" / "1", shard(1, "a", "c", right=70, code=1))
    assert main(["merge", str(first), "--out", str(tmp_path / "out")]) == 3
    assert "emt: shard 2/2 is missing" in capsys.readouterr().err
    written(tmp_path / "parts" / "2", shard(2, "b"))
    assert main(["merge", str(tmp_path / "parts"), "--out", str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "FAIL: 2 of 3 pairs are below their encoder" in out
    assert "exit code: 1" in out
    (folder,) = (tmp_path / "out").iterdir()
    assert {"run.json", "report.html", "summary.md", "badge.json"} <= {path.name for path in folder.iterdir()}
    assert main(["merge", str(tmp_path / "out" / "nothing"), "--out", str(tmp_path / "out")]) == 3
    assert "holds no run.json" in capsys.readouterr().err
