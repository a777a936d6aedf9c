"""Run record and journal: what is written is what is read, whatever a crash leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.gate import Reference, Tolerance, compare
from emt_plugin.pytest_plugin.report_payload import worse
from emt_plugin.records import (
    EncoderFacts,
    Journal,
    OnePairAtATime,
    PairKey,
    PairRecord,
    RecordError,
    Row,
    RunRecord,
    ScoreSummary,
    Timing,
    kind_rates,
    read_journals,
    read_predictions,
    write_predictions,
)
from emt_plugin.store.files import write_atomically

KEY = PairKey("m", "s")


def make_pair(right: int = 80, lost: int = 9, name: str = "images", tolerance: float = 0.05) -> PairRecord:
    model = [True] * right + [False] * (100 - right)
    reference = [True] * (right + lost) + [False] * (100 - right - lost)
    comparison = compare(model, reference, Reference("encoder", "clip"), Tolerance(tolerance, "default", tolerance))
    return PairRecord(
        key=PairKey("model", name),
        prompt="What?",
        status="measured",
        n=100,
        n_split=500,
        labels=("a", "b"),
        scores=(ScoreSummary("answer", "1", right, 3, 97, kind_rates({"wrong class": 97 - right, "nothing": 3}, 100)),),
        comparisons=(comparison,),
        gate=0,
        encoder=EncoderFacts("clip", "catalog", "own encoder", True, right + lost),
        model_facts={"fingerprint": "abc"},
        image_set_facts={"fingerprint": "def"},
        timing=Timing(1.5, 1.0, 300),
    )


def make_run(*pairs: PairRecord, complete: bool = True, code: int = 0) -> RunRecord:
    return RunRecord("run", "2026-01-01T00:00:00+00:00", 3.0, complete, code, None, {"a": 1}, {"b": {"c": None}}, tuple(pairs))


def make_row(row: int, answer: str | None = "The object is a dog.") -> Row:
    return Row(row, f"hash{row}", 0, 1, answer, 1, True, None, True, {"encoder:clip": 0}, 5)


def test_a_pair_survives_the_wire() -> None:
    pair = make_pair()
    assert PairRecord.from_json(pair.to_json()) == pair
    empty = PairRecord(PairKey("m", "s", "checkpoint-2"), status="crashed", reason="its worker crashed")
    assert PairRecord.from_json(empty.to_json()) == empty


def test_a_run_survives_the_disk(tmp_path: Path) -> None:
    run = make_run(make_pair(), PairRecord(PairKey("m", "s")))
    run.write(tmp_path)
    assert RunRecord.read(tmp_path) == run


def test_the_contracts_fields_are_there(tmp_path: Path) -> None:
    make_run(make_pair(), complete=False, code=7).write(tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    assert {"schema", "complete", "exit_code", "settings", "environment", "pairs"} <= set(content)
    (pair,) = content["pairs"]
    assert {
        "model",
        "checkpoint",
        "image_set",
        "prompt",
        "status",
        "reason",
        "n",
        "scores",
        "comparisons",
        "gate",
        "timing",
    } <= set(pair)
    assert (pair["model"], pair["checkpoint"], pair["image_set"]) == ("model", None, "images")
    assert {"scorer", "reference", "n11", "n10", "n01", "n00", "gap", "level", "low", "high", "tolerance", "tolerance_from",
            "verdict", "p", "p_holm", "n_needed"} <= set(pair["comparisons"][0])  # fmt: skip


def test_a_record_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no run\.json"):
        RunRecord.read(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RecordError, match="cannot read"):
        RunRecord.read(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RecordError, match="it has schema 99"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("exit_code",), "zero", r"Expected 'int', got 'str' - at '\$\.exit_code'"),
        (("pairs", 0, "n"), 1.5, r"Expected 'int', got 'float' - at '\$\.pairs\[0\]\.n'"),
        (("pairs", 0, "labels"), "cat", r"Expected 'array', got 'str' - at '\$\.pairs\[0\]\.labels'"),
        (("pairs", 0, "status"), "fine", r"Invalid enum value 'fine' - at '\$\.pairs\[0\]\.status'"),
        (("pairs", 0, "comparisons", 0, "n11"), "9", r"comparisons\[0\]\.n11"),
        (("pairs", 0, "comparisons", 0, "tolerance"), None, r"Expected 'float', got 'null' - at .*tolerance"),
        (("pairs", 0, "model"), 7, r"Expected 'str', got 'int' - at '\$\.pairs\[0\]\.key\.model'"),
        (("pairs", 0, "scores", 0, "kinds"), {}, r"Expected 'array', got 'object' - at .*scores\[0\]\.kinds"),
        (("environment",), None, r"Expected 'object', got 'null' - at '\$\.environment'"),
    ],
)
def test_a_wrongly_typed_field_is_refused_by_its_name(
    tmp_path: Path, place: tuple[str | int, ...], value: object, sentence: str
) -> None:
    run = RunRecord.read(Path(__file__).parent / "records" / "schema-4")
    run.write(tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    *above, last = place
    inside = content
    for step in above:
        inside = inside[step]
    inside[last] = value
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=sentence):
        RunRecord.read(tmp_path)
    del inside[last]
    (tmp_path / "run.json").write_text(json.dumps(content))
    if last in ("exit_code", "n11", "tolerance", "model", "environment"):
        with pytest.raises(RecordError, match="missing required field"):
            RunRecord.read(tmp_path)


def test_a_record_of_the_first_schema_is_read(tmp_path: Path) -> None:
    run = RunRecord.read(Path(__file__).parent / "records" / "schema-1")
    assert len(run.pairs) == 4
    emoji = next(pair for pair in run.pairs if pair.key.image_set == "emoji-mini")
    counted = json.loads((Path(__file__).parent / "records/schema-1/run.json").read_text())["pairs"]
    old = next(pair for pair in counted if pair["image_set"] == "emoji-mini")
    assert {rate.kind: rate.count for rate in emoji.scores[0].kinds} == old["scores"][0]["kinds"]
    assert emoji.scores[0].kinds[0].rate == emoji.scores[0].kinds[0].count / 314
    assert (emoji.steps, emoji.largest_loss, emoji.replay) == ((), None, None)
    run.write(tmp_path)
    assert RunRecord.read(tmp_path) == run


@pytest.mark.parametrize("schema", [2, 3, 4, 5])
def test_records_of_later_schemas_are_read(tmp_path: Path, schema: int) -> None:
    folder = Path(__file__).parent / "records" / f"schema-{schema}"
    run = RunRecord.read(folder)
    old = json.loads((folder / "run.json").read_text())
    assert [pair.key.id for pair in run.pairs] == [f"{pair['model']}/{pair['image_set']}" for pair in old["pairs"]]
    assert [pair.gating.verdict for pair in run.pairs if pair.gating] == [
        pair["comparisons"][pair["gate"]]["verdict"] for pair in old["pairs"]
    ]
    run.write(tmp_path)
    assert RunRecord.read(tmp_path) == run


def test_ids_and_file_names() -> None:
    assert PairKey("m", "s").id == "m/s"
    assert PairKey("m", "s", "checkpoint-200").id == "m@checkpoint-200/s"
    assert PairKey("m", "s").file_name == "m__s"


def test_a_torn_last_line_costs_one_batch(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gw0")
    journal.start(PairRecord(KEY, prompt="What?", labels=("a", "b")))
    journal.append(PairRecord(KEY), [make_row(0), make_row(1)])
    journal.append(PairRecord(KEY), [make_row(2)])
    journal.close()
    path = tmp_path / "gw0.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for cut in range(first, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert [row.row for row in read_journals(tmp_path)["m/s"].rows] == [0, 1]
    path.write_bytes(whole)
    assert [row.row for row in read_journals(tmp_path)["m/s"].rows] == [0, 1, 2]
    assert read_journals(tmp_path)["m/s"].start.labels == ("a", "b")


def test_a_torn_line_that_another_writer_went_on_behind_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gw0")
    journal.start(PairRecord(KEY))
    journal.append(PairRecord(KEY), [make_row(0)])
    journal.append(PairRecord(KEY), [make_row(1)])
    journal.append(PairRecord(KEY), [make_row(2)])
    journal.close()
    path = tmp_path / "gw0.jsonl"
    start, first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(start + first + second[:-20] + third)
    assert [row.row for row in read_journals(tmp_path)["m/s"].rows] == [0]
    path.write_bytes(start + first + third.rstrip())
    assert [row.row for row in read_journals(tmp_path)["m/s"].rows] == [0, 2]


def test_rows_are_read_when_they_are_asked_for_and_those_of_one_pair_kept() -> None:
    reads: list[str] = []

    def reading(name: str) -> Callable[[], list[Row]]:
        def read() -> list[Row]:
            reads.append(name)
            return [make_row(len(name))]

        return read

    rows = OnePairAtATime({name: reading(name) for name in ("one", "three")})
    assert (list(rows), len(rows), "one" in rows, "two" in rows, reads) == (["one", "three"], 2, True, False, [])
    assert rows["three"] is rows["three"]
    assert rows["one"] == [make_row(3)]
    assert rows["three"] == [make_row(5)]
    assert rows.get("two", ()) == ()
    assert reads == ["three", "one", "three"]


@given(st.text(max_size=50), st.none() | st.integers(-1, 5), st.floats(allow_nan=False, allow_infinity=False))
def test_a_row_is_written_as_its_fields_are(answer: str, prediction: int | None, detail: float) -> None:
    scores = {"answer": {"prediction": prediction, "correct": None, "detail": [detail, answer]}}
    row = replace(make_row(0), answer=answer, prediction=prediction, scores=scores)
    assert json.loads(row.to_json()) == asdict(row)
    assert list(json.loads(row.to_json())) == [field.name for field in fields(Row)]


def test_journals_of_several_workers_are_one(tmp_path: Path) -> None:
    for worker, row in (("gw0", 0), ("gw1", 1)):
        journal = Journal(tmp_path, worker)
        journal.start(PairRecord(KEY))
        journal.append(PairRecord(KEY), [make_row(row)])
        journal.close()
    assert sorted(row.row for row in read_journals(tmp_path)["m/s"].rows) == [0, 1]
    assert read_journals(tmp_path / "nowhere") == {}


@given(st.text(max_size=300))
def test_any_answer_survives_journal_and_predictions(tmp_path_factory: pytest.TempPathFactory, answer: str) -> None:
    folder = tmp_path_factory.mktemp("run")
    row = make_row(0, answer.encode("utf-8", "replace").decode())
    journal = Journal(folder / "journal", "main")
    journal.start(PairRecord(KEY))
    journal.append(PairRecord(KEY), [row])
    journal.close()
    rows = read_journals(folder / "journal")["m/s"].rows
    write_predictions(folder, "m__s", rows)
    assert read_predictions(folder, "m__s") == [row]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_records_of_one_pair_the_worse_one_counts() -> None:
    good, bad = make_pair(90, 0), make_pair(60, 30)
    missing = PairRecord(PairKey("model", "images"), status="could-not-run", reason="no")
    assert worse(None, missing) is missing
    assert worse(good, bad) is bad
    assert worse(bad, good) is bad
    assert worse(missing, good) is missing
    assert worse(good, missing) is missing
    unjudged = replace(good, gate=None)
    assert worse(unjudged, bad) is unjudged


def test_the_rows_of_a_pair_measured_twice_are_those_of_the_record_that_is_kept(tmp_path: Path) -> None:
    first, second = (PairRecord(KEY, measurement=name) for name in ("first", "second"))
    journal = Journal(tmp_path, "main")
    for pair, answer in ((first, "cat"), (second, "dog")):
        journal.start(pair)
        journal.append(pair, [replace(make_row(0), answer=answer)])
    journal.close()
    for kept, answer in (({KEY.id: "first"}, "cat"), ({KEY.id: "second"}, "dog"), ({}, "dog"), ({KEY.id: "gone"}, "dog")):
        found = read_journals(tmp_path, kept)[KEY.id]
        assert [row.answer for row in found.rows] == [answer]
