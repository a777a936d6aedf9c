"""``emt runs`` and ``emt export``: what they list and write, and runs by what they are called in every command."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import emt_plugin as emt
from emt_plugin.cli import main
from emt_plugin.records import PairKey
from emt_plugin.report.writers.tables import csv_text, latex_text
from emt_plugin.runs.history import append
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.tables import PAIRS, TABLES, Column, Table
from tests.browser.synthetic import hostile_run
from tests.unit.test_api import IDS, many_rows, pair_from, written
from tests.unit.test_history import outcomes, pair_of, rows_of, run_of

Captured = pytest.CaptureFixture[str]
TEXT = (Column("text", "text", ""), Column("number", "number", ""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = {"model/a": many_rows(1), "model/b": many_rows(2, 35)}
    pairs = [pair_from(name.removeprefix("model/"), found) for name, found in rows.items()]
    return written(tmp_path / "run", run_of("one", "2026-01-01", *pairs), rows)


def test_export_writes_the_tables_of_the_run(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(folder), "--csv", "--parquet", "--latex", "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet", "tex")} - {"images.tex"}
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in sorted(names, key=order)]
    run = emt.load_run(folder)
    for name in TABLES:
        table = getattr(run, name)
        parquet = pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pandas()
        assert list(parquet.columns) == list(table.columns)
        assert parquet.isna().to_numpy().tolist() == table.isna().to_numpy().tolist()
        for column in table.columns:
            assert parquet[column].dropna().tolist() == table[column].dropna().tolist()
    read = pd.read_csv(tmp_path / "out" / "classes.csv", keep_default_na=False)
    assert read["label_name"].tolist() == run.classes["label_name"].tolist()
    assert read["accuracy"].tolist() == run.classes["accuracy"].tolist()


def order(name: str) -> tuple[int, int]:
    table, kind = name.split(".")
    return ["csv", "parquet", "tex"].index(kind), list(TABLES).index(table)


def test_export_writes_figures_and_the_same_ones_again(folder: Path, capsys: Captured) -> None:
    assert main(["export", str(folder), "--svg", "--png"]) == 0
    out = folder / "export"
    assert {path.name for path in out.iterdir()} == {
        f"{name}.{kind}" for name in ("gaps", "confusion-model__a", "confusion-model__b") for kind in ("svg", "png")
    }
    for path in out.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300
    before = {path.name: path.read_bytes() for path in out.glob("*.svg")}
    assert main(["export", str(folder), "--svg"]) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.svg")} == before


def test_export_says_what_is_left_out_and_what_to_say(folder: Path, capsys: Captured) -> None:
    assert main(["export", str(folder)]) == 2
    assert "say what to write: --csv, --parquet, --latex, --svg, --png" in capsys.readouterr().err
    (folder / "predictions" / "model__b.jsonl").unlink()
    assert main(["export", str(folder), "--csv"]) == 0
    assert "no predictions beside the record of model/b: classes and images are left out" in capsys.readouterr().out
    assert main(["export", "nowhere", "--csv", "--reports", str(folder)]) == 1
    assert "emt: no run nowhere: " in capsys.readouterr().err


def test_what_is_hostile_is_exported_as_text(tmp_path: Path) -> None:
    hostile_run(tmp_path / "hostile")
    assert (
        main(["export", str(tmp_path / "hostile"), *(f"--{kind}" for kind in ("csv", "parquet", "latex", "svg", "png"))]) == 0
    )
    for path in (tmp_path / "hostile" / "export").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not tags & {"script", "foreignObject", "image", "a", "iframe"} - {"image"}


def test_names_from_strangers_stay_in_the_folder(tmp_path: Path) -> None:
    rows = many_rows(1)
    pair = replace(pair_from("s", rows), key=PairKey("../../up", "s\0x"))
    written(tmp_path / "run", run_of("one", "2026-01-01", pair), {})
    (tmp_path / "run" / "predictions").mkdir()
    assert main(["export", str(tmp_path / "run"), "--svg", "--out", str(tmp_path / "a" / "b")]) == 0
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"gaps.svg"}


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_spreadsheet_is_handed_no_formula(sign: str) -> None:
    text = csv_text(Table("t", TEXT, ((f'{sign}HYPERLINK("x")', -0.5), ("a=b", None))))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [["text", "number"], [f'\'{sign}HYPERLINK("x")', "-0.5"], ["a=b", ""]]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
def test_csv_is_read_as_what_it_was(rows: list[tuple[str, float]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(Table("t", TEXT, tuple(rows))), newline="")))[1:]
    for (text, number), (there, digits) in zip(rows, read, strict=True):
        assert there in (text, f"'{text}")
        assert not there.startswith(("=", "+", "-", "@"))
        assert float(digits) == number


def pairs(*names: str) -> Table:
    """A table of pairs that could not run."""
    values = {"n": 0, "status": "could-not-run"}
    rows = [tuple({**values, "pair": name}.get(column.name) for column in PAIRS) for name in names]
    return Table("pairs", PAIRS, tuple(rows))


def test_latex_has_a_cell_for_each_column_whatever_the_names(folder: Path) -> None:
    names = (r"a\b{c}$d$&e#f%g_h~i^j<k>l|m", "[1cm]x", "*star", "a--b", "two\nlines")
    text = latex_text(pairs(*names))
    assert text is not None
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert len(body) == len(names)
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 7
        assert "COULD NOT RUN" in line
    signs = r"a\textbackslash{}b\{c\}\$d\$\&e\#f\%g\_h\textasciitilde{}i\textasciicircum{}j"
    assert body[0].startswith(rf"{signs}\textless{{}}k\textgreater{{}}l\textbar{{}}m & 0 & ")
    assert body[1].startswith("{[}1cm{]}x & ")
    assert body[2].startswith("{*}star & ")
    assert body[3].startswith("a-{}-b & ")
    assert body[4].startswith("two lines & ")


def test_latex_says_what_the_table_says(folder: Path) -> None:
    run = emt.load_run(folder)
    main(["export", str(folder), "--latex"])
    text = (folder / "export" / "pairs.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    row = run.pairs.iloc[0]
    cells = next(line for line in text.splitlines() if line.startswith("model/a")).removesuffix(r" \\").split(" & ")
    said = [cell.replace("$-$", "-") for cell in cells]
    gap, low, high = (f"{100 * row[name]:+.1f}" for name in ("gap", "low", "high"))
    model, reference = (f"{100 * row[name]:.1f}" for name in ("accuracy", "reference_accuracy"))
    assert said == ["model/a", str(row["n"]), model, reference, gap, f"{low} to {high}", "5.0", row["verdict"]]


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs: as good as before, then worse."""
    for name, found in zip(IDS, (outcomes(90, 10), outcomes(90, 10), outcomes(60, 40)), strict=True):
        run = run_of(name, f"{name[:4]}-{name[4:6]}-{name[6:8]}", pair_of("s", found), pair_of("t", found))
        written(tmp_path / "reports" / name, run, {"model/s": rows_of(found), "model/t": rows_of(found)})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports"


def test_runs_are_listed_and_what_cannot_be_read_is_said(reports: Path, capsys: Captured) -> None:
    (reports / "broken").mkdir()
    (reports / "broken" / "run.json").write_text("{")
    assert main(["runs"]) == 0
    head, broken, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "started", "(UTC)", "models", "image", "sets", "verdicts", "exit", "code", "complete"]
    assert broken.split()[0] == "broken"
    assert "cannot be read" in broken
    assert main(["report", "broken"]) == 1
    assert "cannot read reports/broken/run.json: " in capsys.readouterr().err
    assert [row.split()[0] for row in rows] == list(IDS)
    assert rows[0].split()[1:] == ["2026-01-01", "02:00", "model", "s,", "t", "2", "FAIL", "0", "yes"]
    assert main(["runs", "--last", "1"]) == 0
    last, older = capsys.readouterr().out.splitlines()[1:]
    assert last.split() == rows[2].split()
    assert older == "and 3 older; --last N lists more"
    assert main(["runs", "--reports", "nowhere"]) == 0
    assert capsys.readouterr().out == "nowhere holds no run\n"


def test_every_command_takes_ids_their_beginnings_and_latest(reports: Path, capsys: Captured) -> None:
    assert main(["compare", "20260101-020000-ab", "latest"]) == 1
    assert f"run {IDS[2]}, since run {IDS[1]}" in capsys.readouterr().out
    assert main(["report", "latest", "--compare", IDS[0]]) == 0
    assert capsys.readouterr().out.startswith(str(Path("reports") / IDS[2] / "report.html"))
    assert main(["export", "20260102", "--csv"]) == 0
    assert (reports / IDS[2] / "export" / "pairs.csv").is_file()
    assert main(["study", "latest"]) == 1
    assert f"run {IDS[2]} has no trajectory" in capsys.readouterr().err
    history = reports.parent / "history.jsonl"
    for name in IDS:
        append(history, lines_of(emt.load_run(name).record, {}))
    for name, pinned in {"latest": IDS[2], "20260101-020000-aa": IDS[0]}.items():
        assert main(["history", str(history), "--pin", name]) == 0
        assert f"are compared with {pinned}, release" in capsys.readouterr().out
    assert main(["history", str(history), "--pin", "20260101"]) == 1
    assert f"'20260101' begins the ids of 2 runs of {history}: {IDS[0]}, {IDS[1]}; write more of one" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "code"), [
    (["report", "20260101"], 1), (["compare", "20260101", "latest"], 4), (["compare", "latest", "20260101"], 4),
    (["export", "20260101", "--csv"], 1), (["merge", "20260101", "latest"], 3), (["study", "20260101"], 1),
    (["report", "latest", "--compare", "20260101"], 1), (["merge", "latest", "--compare", "20260101"], 3),
])  # fmt: skip
def test_an_ambiguous_beginning_is_one_sentence_everywhere(
    reports: Path, capsys: Captured, command: list[str], code: int
) -> None:
    assert main(command) == code
    said = capsys.readouterr().err
    assert said == f"emt: 20260101 begins the ids of 2 runs in reports: {IDS[1]}, {IDS[0]}; write more of one\n"
    assert len(list(reports.iterdir())) == 3


def test_merge_takes_runs_by_their_ids(reports: Path, capsys: Captured) -> None:
    for name, image_set in zip(IDS, "stu", strict=True):
        found = outcomes(90, 10)
        run = run_of(name, "2026-01-01", pair_of(image_set, found))
        run.write(reports / name)
    assert main(["merge", "20260101-020000-aa", IDS[1], "latest", "--no-grid"]) == 1
    merged = json.loads((reports / emt.load_run().id / "run.json").read_text())
    assert merged["merged_from"] == list(IDS)
