"""Runs in Python: found by what they are called, as tables counted again by plain loops, as HTML and as figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

import emt_plugin as emt
from emt_plugin.gate import Reference, Tolerance, compare
from emt_plugin.records import PairKey, PairRecord, Row, RunRecord, ScoreSummary, read_predictions, write_predictions
from emt_plugin.runs.history import append, read_history
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.naming import known_runs, run_folder
from emt_plugin.runs.since import trends_of
from emt_plugin.runs.tables import TABLES
from tests.browser.synthetic import RAN, hostile_run
from tests.unit.test_history import pair_of, run_of
from tests.unit.test_trajectory_report import OTHER, TUNED, made

HEAVY = ("numpy", "pandas", "torch", "matplotlib", "pytest", "scipy", "transformers", "datasets", "pyarrow", "jinja2")
LABELS = ("cat", "dog", "owl")
mpl.use("Agg")


@pytest.fixture(autouse=True)
def _few_figures() -> Iterator[None]:
    """Figures that a notebook would show stay open, and matplotlib warns of many."""
    yield
    plt.close("all")


def in_python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_import_loads_nothing_heavy_and_a_run_neither() -> None:
    loaded = f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert in_python(f"import sys, emt_plugin as emt; dir(emt); {loaded}") == []
    assert in_python(f"import sys, emt_plugin as emt; emt.load_run('reports/example').verdict; {loaded}") == []


def test_names_are_stable() -> None:
    for name in emt.__all__:
        assert getattr(emt, name).__doc__
        assert name in dir(emt)
    with pytest.raises(AttributeError, match="nothing"):
        emt.nothing  # noqa: B018


@pytest.mark.parametrize(("package", "asks"), [("pandas", "run.pairs"), ("matplotlib", "run.plot.gaps()")])
def test_what_is_not_installed_is_one_sentence(package: str, asks: str) -> None:
    said = in_python(
        f"import sys; sys.modules['{package}'] = None\nimport emt_plugin as emt\nrun = emt.load_run('reports/example')\n"
        f"try:\n    {asks}\nexcept emt.CouldNotRun as error:\n    print(error)"
    )
    assert " ".join(said).endswith(f"needs {package}: pip install 'pytest-emt[notebook]'")


def many_rows(seed: int, n: int = 60, scorers: tuple[str, ...] = ("answer",)) -> list[Row]:
    """Images of three classes, read as any of them or as none."""
    chance = Random(seed)
    rows = []
    for index in range(n):
        label, theirs, read = chance.randrange(3), chance.choice([0, 1, 2, None]), chance.choice([0, 1, 2, 2, None])
        scores = {name: {"prediction": read, "correct": read == label, "kind": None} for name in scorers}
        right, kind = read == label, None if read == label else "wrong class"
        references = {"encoder:clip": theirs}
        rows.append(
            Row(
                index,
                f"{index:064x}",
                0,
                label,
                f"=answer {read}",
                read,
                right,
                kind,
                chance.random() < 0.5,
                references,
                3,
                scores,
            )
        )
    return rows


def pair_from(name: str, rows: list[Row], model: str = "model", **changed: Any) -> PairRecord:
    mine, theirs = [row.correct for row in rows], [row.references["encoder:clip"] == row.label for row in rows]
    comparison = compare(mine, theirs, Reference("encoder", "clip"), Tolerance(0.05, "default", 0.05))
    summary = ScoreSummary("answer", "1", sum(mine), sum(row.prediction is None for row in rows), 7, ())
    pair = PairRecord(
        key=PairKey(model, name), status="measured", n=len(rows), n_split=99, labels=LABELS, scores=(summary,),
        comparisons=(comparison,), gate=0,
    )  # fmt: skip
    return replace(pair, **changed)


def written(folder: Path, run: RunRecord, rows: dict[str, list[Row]]) -> Path:
    folder.mkdir(parents=True)
    for pair in run.pairs:
        if pair.key.id in rows:
            write_predictions(folder, pair.key.file_name, rows[pair.key.id], pair.labels)
    run.write(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> emt.Run:
    """Two pairs with their images, and one that could not run."""
    rows = {"model/a": many_rows(1), "model/b": many_rows(2, 35)}
    pairs = [pair_from(name.removeprefix("model/"), found) for name, found in rows.items()]
    gone = PairRecord(PairKey("model", "c", "checkpoint-1"), status="could-not-run", reason="it is not here")
    return emt.load_run(written(tmp_path / "run", run_of("one", "2026-01-01", *pairs, gone), rows))


def lines(run: emt.Run, name: str) -> list[dict[str, Any]]:
    """What the file of a pair says, read as a stranger would."""
    path = run.folder / "predictions" / f"model__{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_are_what_the_predictions_count(run: emt.Run) -> None:
    table = run.pairs
    assert list(table["pair"]) == ["model/a", "model/b", "model@checkpoint-1/c"]
    for name in ("a", "b"):
        row = table[table["image_set"] == name].iloc[0]
        n = mine = theirs = nothing = 0
        for line in lines(run, name):
            n += 1
            mine += line["prediction"] == line["label"]
            theirs += line["references"]["encoder:clip"] == line["label"]
            nothing += line["prediction"] is None
        assert (row["n"], row["correct"], row["reference_correct"], row["no_class"]) == (n, mine, theirs, nothing)
        assert row["accuracy"] == mine / n
        assert row["reference_accuracy"] == theirs / n
        assert row["gap"] == pytest.approx((mine - theirs) / n)
        assert row["low"] < row["gap"] < row["high"]
        assert (row["tolerance"], row["tolerance_from"], row["reference"]) == (0.05, "default", "clip")
    gone = table.iloc[2]
    assert (gone["status"], gone["reason"], gone["checkpoint"], gone["n"]) == (
        "could-not-run",
        "it is not here",
        "checkpoint-1",
        0,
    )
    assert gone[["verdict", "gap", "accuracy", "correct", "may_be_chance"]].isna().all()


def test_images_are_the_predictions_with_names_beside_indices(run: emt.Run) -> None:
    table = run.images
    assert len(table) == 60 + 35
    for name in ("a", "b"):
        found = table[table["image_set"] == name].to_dict("records")
        for row, line in zip(found, lines(run, name), strict=True):
            theirs = line["references"]["encoder:clip"]
            assert (row["row"], row["image"], row["label"], row["answer"]) == (
                line["row"], line["image"], line["label"], line["answer"]
            )  # fmt: skip
            assert row["label_name"] == LABELS[line["label"]] == line["label_name"]
            assert row["correct"] == (line["prediction"] == line["label"])
            assert row["reference_correct"] == (theirs == line["label"])
            for found_name, index in (("prediction", line["prediction"]), ("reference_prediction", theirs)):
                if index is None:
                    assert pd.isna(row[found_name])
                    assert pd.isna(row[f"{found_name}_name"])
                else:
                    assert (row[found_name], row[f"{found_name}_name"]) == (index, LABELS[index])
            assert line["prediction_name"] == (None if line["prediction"] is None else LABELS[line["prediction"]])
            assert line["reference_names"] == {"encoder:clip": None if theirs is None else LABELS[theirs]}


def test_classes_are_what_the_predictions_count(run: emt.Run) -> None:
    table = run.classes
    assert len(table) == 6
    for row in table.to_dict("records"):
        n = mine = theirs = nothing = 0
        taken = [0, 0, 0]
        for line in lines(run, row["image_set"]):
            if line["label"] != row["label"]:
                continue
            n += 1
            mine += line["prediction"] == line["label"]
            theirs += line["references"]["encoder:clip"] == line["label"]
            nothing += line["prediction"] is None
            if line["prediction"] not in (None, line["label"]):
                taken[line["prediction"]] += 1
        assert row["label_name"] == LABELS[row["label"]]
        assert (row["n"], row["correct"], row["reference_correct"], row["no_class"]) == (n, mine, theirs, nothing)
        assert row["gap"] == pytest.approx((mine - theirs) / n)
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["taken_for_n"] == max(taken)
        if any(taken):
            assert (row["taken_for"], row["taken_for_name"]) == (taken.index(max(taken)), LABELS[taken.index(max(taken))])


def test_further_scorers_and_probes_have_columns_of_their_own(tmp_path: Path) -> None:
    rows = many_rows(3, 20, ("answer", "text-embedding"))
    rows = [replace(row, probes={"vision probe": 2}) for row in rows]
    other = ScoreSummary("text-embedding", "1", 5, 0, None, ())
    pair = pair_from("a", rows)
    pair = replace(pair, scores=(*pair.scores, other))
    run = emt.load_run(written(tmp_path / "run", run_of("one", "2026-01-01", pair), {"model/a": rows}))
    found = run.images
    assert list(found["text_embedding_correct"]) == [row.prediction == row.label for row in rows]
    assert set(found["vision_probe_prediction_name"]) == {"owl"}


def test_tables_without_rows_have_their_columns(tmp_path: Path) -> None:
    run = emt.load_run(written(tmp_path / "run", run_of("none", "2026-01-01"), {}))
    for name, columns in TABLES.items():
        table = getattr(run, name)
        assert len(table) == 0
        assert list(table.columns) == [column.name for column in columns]
        assert (table.dtypes == getattr(emt.load_run("reports/example"), name).dtypes[list(table.columns)]).all()


def test_stages_and_trajectory_and_history(tmp_path: Path) -> None:
    example = emt.load_run("reports/example")
    record = json.loads((example.folder / "run.json").read_text())
    rows = [
        (pair["image_set"], step["name"], step["correct"] / pair["n"]) for pair in record["pairs"] for step in pair["steps"]
    ]
    assert list(example.stages[["image_set", "stage", "accuracy"]].itertuples(index=False, name=None)) == rows
    first = example.stages["stage"] == "encoder"
    assert example.stages[first]["change"].isna().all()
    assert example.stages[~first]["change"].notna().all()

    found = run_of("two", "2026-01-02", pair_of("s", [True] * 30 + [False] * 10))
    history = tmp_path / "history.jsonl"
    append(history, lines_of(run_of("one", "2026-01-01", pair_of("s", [True] * 20 + [False] * 20)), {}))
    found = replace(found, trajectories=(made(),), trends=trends_of(read_history(history), lines_of(found, {})))
    run = emt.load_run(written(tmp_path / "run", found, {}))
    table = run.trajectory
    # The base and three checkpoints on two image sets; 80 of the other's 100 images are right at first, then 78, 40 and 79.
    assert list(table[table["image_set"] == OTHER]["correct"]) == [80, 78, 40, 79]
    assert list(table[table["image_set"] == OTHER]["change"])[1:] == pytest.approx([-0.02, -0.4, -0.01])
    assert list(table["trained_on"]) == [True, False] * 4
    assert table[table["keep"]]["checkpoint"].tolist() == ["checkpoint-1"] * 2
    assert list(run.history["run"]) == ["one", "two"]
    assert list(run.history["accuracy"]) == [0.5, 0.75]
    assert run.history["started"].dt.date.astype(str).tolist() == ["2026-01-01", "2026-01-02"]


def test_old_records_still_read() -> None:
    for folder in sorted((Path(__file__).parent / "records").iterdir()):
        run = emt.load_run(folder)
        assert len(run.pairs) == len(run.record.pairs)
        assert len(run.images) == sum(len(rows) for rows in run.rows.values())
        assert set(run.classes["pair"]) <= set(run.pairs["pair"])
        assert run.stages["accuracy"].between(0, 1).all()
        assert run.id in run._repr_html_()


def test_names_beside_indices_do_not_change_what_is_read(tmp_path: Path) -> None:
    rows = many_rows(5)
    for labels in ((), LABELS):
        write_predictions(tmp_path, "m__s", rows, labels)
        assert read_predictions(tmp_path, "m__s") == rows


IDS = ("20260101-020000-aa01", "20260101-020000-ab02", "20260102-020000-aa03")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for name in IDS:
        written(tmp_path / "reports" / name, run_of(name, f"{name[:4]}-{name[4:6]}-{name[6:8]}"), {})
    (tmp_path / "reports" / "20260103-020000-under-way").mkdir()
    return tmp_path / "reports"


def test_a_run_is_found_by_its_id_its_beginning_and_latest(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in {
        IDS[0]: IDS[0], "20260101-020000-ab": IDS[1], "20260102": IDS[2], "latest": IDS[2], str(reports / IDS[1]): IDS[1],
        str(reports / IDS[1] / "run.json"): IDS[1],
    }.items():  # fmt: skip
        assert run_folder(name, reports) == reports / found
    assert emt.load_run(reports=reports).id == IDS[2]
    monkeypatch.chdir(reports.parent)
    assert emt.load_run("latest").id == IDS[2]
    assert [run.id for run in known_runs(Path("reports"))] == list(IDS)


@pytest.mark.parametrize(("name", "said"), [
    ("20260101", f"20260101 begins the ids of 2 runs in {{}}: {IDS[1]}, {IDS[0]}; write more of one"),
    ("2025", f"no run 2025 in {{}}, and no folder of that name has a run.json; known: {IDS[2]}, {IDS[1]}, {IDS[0]}"),
    ("", f"no run  in {{}}, and no folder of that name has a run.json; known: {IDS[2]}, {IDS[1]}, {IDS[0]}"),
    ("some/where", "some/where holds no run.json; name the folder of one run"),
])  # fmt: skip
def test_what_names_no_run_or_several_is_one_sentence(reports: Path, name: str, said: str) -> None:
    with pytest.raises(emt.RecordError) as error:
        emt.load_run(name, reports)
    assert str(error.value) == said.format(reports)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(emt.RecordError, match="there is no run in"):
        emt.load_run("latest", tmp_path / "nowhere")


def test_a_folder_that_was_renamed_is_found_by_both_names_and_a_link_is_no_second_run(reports: Path) -> None:
    (reports / IDS[0]).rename(reports / "release")
    (reports / "newest").symlink_to(IDS[2])
    for name in ("release", "rel", IDS[0]):
        assert run_folder(name, reports) == reports / "release"
    assert [run.id for run in known_runs(reports)] == list(IDS)
    # Written later in the same second.
    (reports / "release" / "run.json").touch()
    assert [run.id for run in known_runs(reports)] == [IDS[1], IDS[0], IDS[2]]


class Texts(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_verdict_and_the_table(run: emt.Run) -> None:
    page = Texts(run._repr_html_())
    assert "INCOMPLETE" not in page.text
    assert run.verdict in page.text
    assert "model@checkpoint-1/c" in page.text
    assert "COULD NOT RUN" in page.text
    assert repr(run) == f"<Run one: {run.verdict}>"


def test_a_notebook_shows_the_first_of_many_pairs(tmp_path: Path) -> None:
    pairs = [pair_of(f"set-{number}", [True, False]) for number in range(100)]
    run = emt.load_run(written(tmp_path / "run", replace(run_of("one", "2026-01-01", *pairs), trajectories=(made(),)), {}))
    page = run._repr_html_()
    assert page.count("<tr>") == 61
    assert "The first 60 of 100 pairs" in page
    assert "Stop at epoch 0.12 (checkpoint-1)" in page


def test_text_from_strangers_is_text(tmp_path: Path) -> None:
    run = emt.load_run(hostile_run(tmp_path / "hostile"))
    page = Texts(run._repr_html_())
    assert page.tags == {"div", "p", "b", "table", "tr", "th", "td"}
    assert page.attributes == {"style"}
    assert RAN in page.text
    for sign in "\u202e\x1b\x00":
        assert sign not in run._repr_html_()
    assert len(run.images) == len(next(iter(run.rows.values())))


def text_of(ax: Any) -> list[str]:
    return [label.get_text() for label in (*ax.get_xticklabels(), *ax.get_yticklabels())]


def test_gaps_are_drawn_in_points_with_zero_and_tolerance(run: emt.Run) -> None:
    ax = run.plot.gaps()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["model/a", "model/b", "model@checkpoint-1/c"]
    assert ax.yaxis_inverted()
    assert "percentage points" in ax.get_xlabel()
    upright = {line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2}
    assert {0.0, -5.0} <= upright
    shown = sorted(float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() in "oXD")
    assert shown == pytest.approx(sorted(100 * gap for gap in run.pairs["gap"].dropna()))
    ax.figure.canvas.draw()


def test_confusion_counts_what_the_predictions_say(run: emt.Run) -> None:
    with pytest.raises(emt.RecordError, match="several pairs; name one of model/a, model/b"):
        run.plot.confusion()
    ax = run.plot.confusion("model/a")
    counts = [[0] * 4 for _ in range(3)]
    for line in lines(run, "a"):
        counts[line["label"]][3 if line["prediction"] is None else line["prediction"]] += 1
    for text in ax.texts:
        column, row = text.get_position()
        assert int(text.get_text()) == counts[row][column]
        counts[row][column] = 0
    assert not any(map(any, counts))
    assert text_of(ax) == [*LABELS, "no class", *LABELS]


def test_predictions_of_another_run_are_not_drawn(tmp_path: Path) -> None:
    rows = [*many_rows(1), replace(many_rows(1)[0], row=99, label=7)]
    run = emt.load_run(written(tmp_path / "run", run_of("one", "2026-01-01", pair_from("a", rows)), {"model/a": rows}))
    with pytest.raises(emt.RecordError, match="have a label that its record does not"):
        run.plot.confusion()
    assert run.images["label_name"].isna().sum() == 1


def test_stages_and_trajectories_are_drawn(tmp_path: Path) -> None:
    example = emt.load_run("reports/example")
    ax = example.plot.stages()
    assert len(ax.containers) == len(example.record.pairs)
    assert "%" in ax.get_ylabel()
    one = example.record.pairs[0]
    (line,) = example.plot.stages([one.key.id]).containers
    assert list(line.lines[0].get_ydata()) == pytest.approx([100 * step.correct / one.n for step in one.steps])
    with pytest.raises(emt.RecordError, match="measured no stage of these pairs"):
        example.plot.stages(["nothing"])
    with pytest.raises(emt.RecordError, match="without --emt-checkpoint"):
        example.plot.trajectory()

    found = replace(run_of("two", "2026-01-02", replace(pair_of(OTHER, [True] * 9), key=PairKey("base-model", OTHER))),
                    trajectories=(made(),))  # fmt: skip
    run = emt.load_run(written(tmp_path / "run", found, {}))
    with pytest.raises(emt.RecordError, match="no trajectory nothing; name one of run-1"):
        run.plot.trajectory("nothing")
    ax = run.plot.trajectory()
    assert [list(container.lines[0].get_ydata()) for container in ax.containers] == [
        pytest.approx([0, 30, 40, 35]), pytest.approx([0, -2, -40, -1])
    ]  # fmt: skip
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {f"{TUNED} (trained on)", OTHER, "tolerance −5", "to keep: checkpoint-1"} == set(legend)


def test_figures_draw_what_is_hostile_as_text(tmp_path: Path) -> None:
    rows = many_rows(6)
    labels = ("$\\frac{1}$", "a $x_1$ b $", "\u202e<b>\nnext" + "x" * 1000)
    pair = pair_from("$\\undefined$", rows, labels=labels)
    run = emt.load_run(written(tmp_path / "run", run_of("one", "2026-01-01", pair), {pair.key.id: rows}))
    for ax in (run.plot.gaps(), run.plot.confusion()):
        ax.figure.canvas.draw()
        ax.figure.savefig(tmp_path / "drawn.svg")
    assert "<b>" not in (tmp_path / "drawn.svg").read_text()


def test_figures_draw_on_axes_that_are_given(run: emt.Run) -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert run.plot.gaps(ax) is ax
    assert run.plot.confusion("model/b", ax=ax) is ax
