"""``emt compare``, ``history`` and ``report`` on records: what they print, and what they exit with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emt_plugin.cli import main
from emt_plugin.records import Flip, PairKey, PairRecord, RunRecord, read_flips, write_flips, write_predictions
from emt_plugin.runs.history import append, read_history
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.since import changes_since
from tests.unit.test_history import outcomes, pair_of, rows_of, run_of

Captured = pytest.CaptureFixture[str]


def written(folder: Path, run: RunRecord, found: dict[str, list[bool]]) -> str:
    folder.mkdir()
    run.write(folder)
    for pair in run.pairs:
        if pair.key.id in found:
            write_predictions(folder, pair.key.file_name, rows_of(found[pair.key.id]))
    return str(folder)


def two_runs(tmp_path: Path, before: list[bool], after: list[bool], **facts: str) -> tuple[str, str]:
    one = written(tmp_path / "one", run_of("one", "2026-01-01", pair_of("s", before)), {"model/s": before})
    two = written(tmp_path / "two", run_of("two", "2026-01-02", pair_of("s", after, **facts)), {"model/s": after})
    return one, two


def test_compare_prints_the_verdict_and_the_flips(tmp_path: Path, capsys: Captured) -> None:
    one, two = two_runs(tmp_path, outcomes(90, 10), [*outcomes(70, 20), *outcomes(3, 7)], dtype="bfloat16")
    assert main(["compare", one, two, "--flips", "2"]) == 1
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("model/s  "))
    # 20 of 100 lost and 3 gained: 90 to 73 right.
    assert row.split()[:5] == ["model/s", "100", "90.0%", "73.0%", "−17.0"]
    assert row.split()[-4:] == ["20", "3", "5", "FAIL"]
    assert "worse: model/s: 90.0% to 73.0%, −17.0 [" in out
    assert "changed: dtype float32 is now bfloat16" in out
    assert "model/s, right to wrong: 20 images" in out
    assert "row 70, image hash0070: “answer True” (read as a), now “answer False” (read as b)" in out
    assert "and 18 more; --flips N lists more" in out
    assert "model/s, wrong to right: 3 images" in out


@pytest.mark.parametrize(("after", "options", "code"), [
    (outcomes(90, 10), [], 0),
    ([*outcomes(84, 6), *outcomes(0, 10)], [], 7),
    ([*outcomes(84, 6), *outcomes(0, 10)], ["--tolerance", "0.2"], 0),
    (outcomes(60, 40), [], 1),
])  # fmt: skip
def test_compare_exits_like_the_gate(tmp_path: Path, after: list[bool], options: list[str], code: int) -> None:
    one, two = two_runs(tmp_path, outcomes(90, 10), after)
    assert main(["compare", one, two, *options]) == code


def test_compare_refuses_another_subset_and_says_why(tmp_path: Path, capsys: Captured) -> None:
    one, two = two_runs(tmp_path, outcomes(90, 10), outcomes(45, 5), images="others")
    assert main(["compare", one, two]) == 3
    out = capsys.readouterr().out
    assert "not compared: model/s: not the same images: 100 in run one and 50 now" in out
    assert "right to wrong" not in out


@pytest.mark.parametrize(("options", "message"), [
    (["nowhere"], "holds no run.json"),
    (["one", "--tolerance", "5"], "write 0.05"),
])  # fmt: skip
def test_compare_tells_a_mistake_from_a_verdict(tmp_path: Path, capsys: Captured, options: list[str], message: str) -> None:
    one, _ = two_runs(tmp_path, outcomes(9, 1), outcomes(9, 1))
    assert main(["compare", one, str(tmp_path / options[0]), *options[1:]]) == 4
    assert message in capsys.readouterr().err


def test_report_sets_another_run_beside_it_and_leaves_the_record_alone(tmp_path: Path) -> None:
    one, two = two_runs(tmp_path, outcomes(90, 10), outcomes(70, 30))
    record = (tmp_path / "two" / "run.json").read_bytes()
    assert main(["report", two, "--compare", one]) == 0
    page = (tmp_path / "two" / "report.html").read_text()
    assert "Since run one" in page
    assert "right before" in page
    assert (tmp_path / "two" / "run.json").read_bytes() == record
    assert main(["report", two]) == 0
    assert "Since run one" not in (tmp_path / "two" / "report.html").read_text()


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_report_draws_records_of_every_schema(tmp_path: Path, schema: int) -> None:
    record = Path(__file__).parent / "records" / f"schema-{schema}" / "run.json"
    (tmp_path / "run.json").write_bytes(record.read_bytes())
    assert main(["report", str(tmp_path), "--report", "dir"]) == 0
    page = (tmp_path / "report.html").read_text()
    for pair in json.loads(record.read_text())["pairs"]:
        assert f"{pair['model']}/{pair['image_set']}" in page


def test_history_shows_and_pins(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "history.jsonl"
    assert main(["history", str(path)]) == 0
    assert "holds no run yet" in capsys.readouterr().out
    crashed = PairRecord(PairKey("model", "b"), status="crashed", reason="its worker crashed")
    append(path, lines_of(run_of("one", "2026-01-01", pair_of("a", outcomes(90, 10)), crashed), {}))
    assert main(["history", str(path), "--pin", "one", "--name", "v1"]) == 0
    capsys.readouterr()
    assert main(["history", str(path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["one", "model/a", "100", "90.0%", "−10.0", "FAIL", "–", "v1"]
    assert rows[2] == ["one", "model/b", "–", "–", "–", "CRASHED", "–", "v1"]
    assert main(["history", str(path), "--pin", "two"]) == 1
    assert "has no run 'two' that measured anything; its last ones: one" in capsys.readouterr().err


@pytest.mark.parametrize("line", ['{"row": 1}', "[1]", "5"])
def test_damaged_predictions_are_no_verdict(tmp_path: Path, capsys: Captured, line: str) -> None:
    one, two = two_runs(tmp_path, outcomes(9, 1), outcomes(9, 1))
    with (tmp_path / "two" / "predictions" / "model__s.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert main(["compare", one, two]) == 4
    assert "a line is no row of this version" in capsys.readouterr().err
    assert main(["report", two]) == 1
    assert main(["merge", two, "--out", str(tmp_path / "out")]) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("gate", 7), ("labels", []), ("image_set_facts", None), ("n", 0), ("scores", [{"correct": float("nan")}])],
)
def test_a_damaged_record_is_said_in_one_sentence(tmp_path: Path, capsys: Captured, name: str, value: object) -> None:
    one, two = two_runs(tmp_path, outcomes(9, 1), outcomes(9, 1))
    content = json.loads((tmp_path / "two" / "run.json").read_text())
    content["pairs"][0][name] = value
    (tmp_path / "two" / "run.json").write_text(json.dumps(content))
    code = main(["report", two])
    captured = capsys.readouterr()
    assert code in (0, 1)
    assert code == 0 or captured.err.startswith("emt: ")
    assert captured.err.count("\n") <= 1
    assert main(["compare", one, two]) != 1


def test_a_place_that_cannot_be_written_is_no_verdict(tmp_path: Path, capsys: Captured) -> None:
    _, two = two_runs(tmp_path, outcomes(9, 1), outcomes(9, 1))
    (tmp_path / "file").write_text("")
    assert main(["merge", two, "--out", str(tmp_path / "file" / "out")]) == 3
    assert capsys.readouterr().err.startswith("emt: ")


def test_a_report_without_predictions_says_what_is_left_out(tmp_path: Path, capsys: Captured) -> None:
    folder = written(tmp_path / "bare", run_of("bare", "2026-01-01", pair_of("s", outcomes(9, 1))), {})
    assert main(["report", folder]) == 0
    assert "there are no predictions beside the record of model/s" in capsys.readouterr().out


def test_a_compared_run_stands_before_last_night_and_in_the_summary_too(tmp_path: Path) -> None:
    one, two = two_runs(tmp_path, outcomes(90, 10), outcomes(70, 30))
    record = RunRecord.read(tmp_path / "two")
    history = tmp_path / "history.jsonl"
    append(
        history, lines_of(run_of("night", "2026-01-01", pair_of("s", outcomes(90, 10))), {"model/s": rows_of(outcomes(90, 10))})
    )
    night = changes_since(read_history(history), lines_of(record, {"model/s": rows_of(outcomes(70, 30))}))
    replace(record, changes=night).write(tmp_path / "two")
    assert main(["report", two, "--compare", one]) == 0
    for name in ("report.html", "summary.md"):
        text = (tmp_path / "two" / name).read_text()
        assert 0 < text.index("Since run one") < text.index("Since last night")


def test_flips_survive_the_disk(tmp_path: Path) -> None:
    flip = Flip(3, "hash3", 0, True, "a \u202e\n cat", None, 1, None)
    write_flips(tmp_path, "model__s", [flip, flip])
    assert read_flips(tmp_path, "model__s") == [flip, flip]
    assert read_flips(tmp_path, "model__other") == []
