"""Runs beside earlier ones, by the options: history, comparison, repeat, one image, shards."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_plugin.cli import main
from emt_plugin.records import Row, RunRecord, read_flips, read_predictions
from emt_plugin.runs.beside import rows_of
from emt_plugin.runs.compare import compare_runs
from emt_plugin.runs.history import read_history
from tests.plugin.conftest import REPOSITORY, Run

Start = Callable[..., Run]
ADAPTERS = str(REPOSITORY / "fixtures" / "mini" / "adapters" / "lora-emoji" / "*")
QUICK = ("--emt-image-set", "mnist-mini", "--emt-image-set", "digits-mini", "--emt-limit", "40", "--emt-tolerance", "0.5")


def test_two_nights(run: Start, suite: Path) -> None:
    first = run(*QUICK, "--emt-history", "nights/history.jsonl", "--emt-repeat", "2")
    assert first.code == 0, first.output
    assert "measured 2 times" in first.output
    history = suite / "nights" / "history.jsonl"
    assert len(history.read_text().splitlines()) == 2
    assert main(["history", str(history), "--pin", first.record["run_id"], "--name", "v1"]) == 0
    second = run(*QUICK, "--emt-history", "nights/history.jsonl", "--emt-store=refresh")
    assert "Since the run before (" in second.output
    assert "no image changed in llava-mini/mnist-mini, llava-mini/digits-mini" in second.output
    record = RunRecord.read(second.place)
    assert [changes.name for changes in record.changes] == ["the run before", "release v1"]
    assert [len(trend.points) for trend in record.trends] == [2, 2]
    assert {line.flip_rate for line in read_history(history).lines} == {0.0, None}
    assert 'id="trend"' in (second.place / "report.html").read_text()


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_compared_with_another_model_image_by_image(run: Start, suite: Path, workers: tuple[str, ...]) -> None:
    """Two models under one name: the flips are recounted from both runs' predictions."""
    catalog = suite / "catalog.toml"
    catalog.write_text('[models.tuned]\nsource = "bundled:llava-mini"\nencoder = "bundled:clip-mini"\n')
    few = ("--emt-catalog", str(catalog), "--emt-model", "tuned", "--emt-image-set", "emoji-mini", "--emt-tolerance", "0.5")
    before = run(*few)
    place = suite / "before"
    shutil.copytree(before.place, place)
    catalog.write_text('[models.tuned]\nsource = "bundled:llava-mini-forgot"\nencoder = "bundled:clip-mini"\n')
    after = run(*few, "--emt-compare", str(place), *workers)
    assert after.code == 0, after.output
    then, now = (read_predictions(folder, "tuned__emoji-mini") for folder in (place, after.place))
    earlier = {(row.image, row.occurrence): row.correct for row in then}
    lost = {row.row for row in now if earlier[row.image, row.occurrence] and not row.correct}
    gained = {row.row for row in now if not earlier[row.image, row.occurrence] and row.correct}
    flips = read_flips(after.place, "tuned__emoji-mini")
    assert ({flip.row for flip in flips if flip.lost}, {flip.row for flip in flips if not flip.lost}) == (lost, gained)
    (changes,) = RunRecord.read(after.place).changes
    comparison = changes.pairs[0].comparison
    assert comparison is not None
    assert (comparison.n01, comparison.n10) == (len(lost), len(gained))
    assert {"model weights", "model source"} <= {difference.name for difference in changes.pairs[0].differences}
    # Every image that the report shows has its picture.
    page = (after.place / "report.html").read_text()
    assert "right before" in page
    assert "no picture kept" not in page


def test_one_image_again_by_the_reports_own_command(run: Start, suite: Path) -> None:
    whole = run(*QUICK)
    page = (whole.place / "report.html").read_text()
    command = shlex.split(
        re.findall(r'<code class="command">(pytest [^<]*--emt-image [^<]*)</code>', page)[0].replace("&#39;", "'")
    )
    # Where no package has the benchmarks and the run named none, they are looked for in a checkout.
    assert command[:2] == ["pytest", "benchmarks"]
    rows = read_predictions(whole.place, whole.record["pairs"][0]["model"] + "__mnist-mini")
    shown = next(row for row in rows if row.image.startswith(command[-1]))
    again = run(*command[2:])
    assert again.code in (1, 7), again.output
    assert f"row {shown.row}, image {shown.image}" in again.output
    assert f"answer: {shown.answer}" in again.output
    assert f"failure kind: {shown.kind}" in again.output
    assert again.record["pairs"][0]["n"] == 1


def test_an_image_that_is_not_there(run: Start) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-image", "0123456789ab")
    assert done.code == 3, done.output
    assert "no image of mnist-mini's split 'test' has a hash that begins with 0123456789ab" in done.output


def test_shards_make_the_run_that_one_would_have_been(run: Start, suite: Path) -> None:
    # What a run's folder is asked at once: the next run is the newest then.
    whole = run(*QUICK).place
    parts = [run(*QUICK, "--emt-shard", f"{index}/2").place for index in (1, 2)]
    assert [len(RunRecord.read(part).pairs) for part in parts] == [1, 1]
    shard = RunRecord.read(parts[0]).shard
    assert shard is not None
    assert shard.pairs == ("llava-mini/mnist-mini", "llava-mini/digits-mini")
    out = suite / "joined"
    assert main(["merge", str(parts[1]), str(parts[0]), "--out", str(out)]) == 0
    (record,) = out.glob("*/run.json")

    def told(folder: Path) -> list[tuple[object, ...]]:
        return [(pair.key, pair.scores, pair.comparisons) for pair in RunRecord.read(folder).pairs]

    assert told(record.parent) == told(whole)
    for pair in ("llava-mini__mnist-mini", "llava-mini__digits-mini"):
        assert read_predictions(record.parent, pair) == read_predictions(whole, pair)
    assert main(["merge", str(parts[0]), "--out", str(out)]) == 3


def test_a_history_that_is_spoilt_meanwhile_costs_no_report(run: Start, suite: Path) -> None:
    """What was measured is recorded and drawn, in one sentence the run is incomplete, and every file says so."""
    spoil = "import pathlib\n\ndef test_spoil():\n    pathlib.Path('h.jsonl').write_text('{\"schema\": 7}')\n"
    (suite / "test_spoil.py").write_text(spoil)
    done = run(*QUICK, "--emt-history", "h.jsonl")
    assert done.code == 3, done.output
    assert "Traceback" not in done.output
    assert "INCOMPLETE: every pair has a verdict, and something else went wrong" in done.output
    assert "has schema 7" in done.record["reason"]
    assert (done.record["complete"], done.record["exit_code"]) == (False, 3)
    assert len(read_predictions(done.place, "llava-mini__mnist-mini")) == 40
    assert "INCOMPLETE" in (done.place / "report.html").read_text()
    assert "INCOMPLETE" in (done.place / "badge.json").read_text()


def test_assets_beside_the_page(run: Start) -> None:
    done = run(*QUICK, "--emt-report=dir")
    page = (done.place / "report.html").read_text()
    assert "<style" not in page
    assert "data:" not in page
    assert " style=" not in page
    for source in re.findall(r'(?:src|href)="([^"#][^"]*)"', page):
        assert (done.place / source).is_file(), source


def test_the_step_summary_is_appended(run: Start, suite: Path) -> None:
    page = suite / "step.md"
    page.write_text("before\n")
    done = run(*QUICK, GITHUB_STEP_SUMMARY=str(page))
    assert page.read_text() == f"before\n{(done.place / 'summary.md').read_text()}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--emt-compare", "nowhere"),
            "--emt-compare: no run nowhere: it is no folder with a run.json, and there is no run in",
        ),
        (("--emt-repeat", "0"), "--emt-repeat 0 is not a number of times"),
        (("--emt-report", "pdf"), "unknown --emt-report 'pdf'; known: single, dir"),
        (("--emt-shard", "3/2"), "--emt-shard 3/2 names no part; write such as 1/4"),
        (("--emt-shard", "1/9"), "there are 4 pairs, so at most 4 parts"),
        (("--emt-image", "x"), "is no beginning of an image's hash"),
        (("--emt-image", "0123456789", "--emt-history", "h.jsonl"), "leave one out"),
        (("--emt-image", "0123456789", "--emt-update-tolerances", "--emt-tolerances", "t.toml"), "leave one out"),
        (("--emt-history", "pytest.ini"), "is no history"),
        (("--emt-history", "pytest.ini/h.jsonl"), "name another file with --emt-history"),
        (("--emt-shard", "1/2", "--emt-checkpoint", ADAPTERS), "--emt-shard would part a trajectory from its base"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(run: Start, options: tuple[str, ...], message: str) -> None:
    done = run(*options)
    assert done.code == 4, done.output
    assert message in done.output
    assert "Traceback" not in done.output


def test_nights_that_stop_at_different_images(run: Start, suite: Path) -> None:
    """The tuned model loses where its base holds: the second night stops sooner, and both share its images."""
    catalog = suite / "catalog.toml"
    few = ("--emt-catalog", str(catalog), "--emt-model", "tuned", "--emt-image-set", "digits-mini", "--emt-early-stop")
    nights = []
    for source in ("llava-mini", "llava-mini-forgot"):
        catalog.write_text(f'[models.tuned]\nsource = "bundled:{source}"\nencoder = "bundled:clip-mini"\n')
        nights.append(run(*few, "--emt-history", "history.jsonl").place)
    first, second = (read_predictions(place, "tuned__digits-mini") for place in nights)
    count = min(len(first), len(second))
    assert len(first) != len(second)
    lost = sum(then.correct and not now.correct for then, now in zip(first, second, strict=False))
    assert [row.image for row in first[:count]] == [row.image for row in second[:count]]
    (by_history,) = RunRecord.read(nights[1]).changes
    for changes in (by_history, compare_runs(*both(nights[0]), *both(nights[1]))):
        (change,) = changes.pairs
        assert change.comparison is not None, change.reason
        assert (change.comparison.n, change.comparison.n01) == (count, lost)
        assert f"on the first {count} images of the order" in str(change.reason)
        assert "images" not in {difference.name for difference in change.differences}
    assert main(["compare", *map(str, nights)]) in (1, 7)


def both(folder: Path) -> tuple[RunRecord, dict[str, list[Row]]]:
    run = RunRecord.read(folder)
    return run, rows_of(folder, run)
