"""Pairs whose images are parted over runs: joined they equal one run on all of them, and none is a verdict."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emt_plugin.cli import main
from emt_plugin.records import RunRecord, read_predictions
from emt_plugin.runs.merging import MergeError, merge
from tests.plugin.conftest import REPOSITORY, Run

Start = Callable[..., Run]
MNIST, DIGITS, EMOJI = (("--emt-image-set", f"{name}-mini") for name in ("mnist", "digits", "emoji"))
FEW = (*MNIST, *EMOJI, "--emt-limit", "40", "--emt-tolerance", "0.5")
SCORED = ("--emt-scorer", "answer,likelihood", "--emt-probe-images", "8")
# What a run has of its own.
OWN = ("measurement", "timing")


def parts_of(run: Start, count: int, *options: str) -> list[Path]:
    return [run(*options, *by_images(f"{index}/{count}")).place for index in range(1, count + 1)]


def by_images(shard: str) -> tuple[str, ...]:
    return ("--emt-shard", shard, "--emt-shard-by", "images")


def pairs_in(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "run.json").read_text())["pairs"]
    return {
        f"{pair['model']}__{pair['image_set']}": {name: value for name, value in pair.items() if name not in OWN}
        for pair in found
    }


@pytest.mark.parametrize(
    "options",
    [
        FEW,
        pytest.param((*FEW, *SCORED), marks=pytest.mark.thorough),
        pytest.param((*FEW, "--emt-model", "llava-mini-forgot", "--emt-reference", "llava-mini",
                      "--emt-scorer", "likelihood,answer", "--emt-probe-images", "0"), marks=pytest.mark.thorough),
        pytest.param((*FEW, "--emt-repeat", "2", "--emt-scorer", "answer,text-embedding"), marks=pytest.mark.thorough),
        pytest.param((*DIGITS, "--emt-limit", "40", "--emt-reference", "probe", "--emt-probe-images", "8",
                      "--emt-tolerance", "0.9"), marks=pytest.mark.thorough),
    ],
    ids=["answer", "likelihood-and-probes", "reference-model", "repeat", "probe"],
)  # fmt: skip
def test_three_parts_are_the_run_that_one_would_have_been(run: Start, suite: Path, options: tuple[str, ...]) -> None:
    """40 images in parts of 14, 13 and 13, joined in another order than their own."""
    done = run(*options, "--emt-store=off")
    whole = done.place
    first, second, third = parts_of(run, 3, *options, "--emt-store=off")
    assert [pair["n"] for pair in pairs_in(second).values()] == [13] * len(pairs_in(whole))
    joined, folder = merge([third, first, second], suite / "joined")
    expected, found = pairs_in(whole), pairs_in(folder)
    for pair in [*expected.values(), *found.values()]:
        # It grows while running, and parts run less.
        assert pair["model_facts"].pop("batch_size")
    assert found == expected
    for name in expected:
        assert read_predictions(folder, name) == read_predictions(whole, name)
    assert (joined.exit_code, joined.complete, joined.reason) == (done.code, True, None)
    assert joined.shard is None


def test_a_part_by_itself_is_no_verdict_anywhere(run: Start, suite: Path) -> None:
    done = run(*FEW, *by_images("1/2"), "--junitxml", "junit.xml")
    assert done.code == 3, done.output
    assert "INCOMPLETE: part 1 of 2 by images of 2 pairs, without a verdict: `emt merge` joins the parts" in done.output
    assert "PART 1 OF 2" in done.output
    assert "2 skipped" in done.output
    suites = ElementTree.parse(suite / "junit.xml").getroot().iter("testcase")
    assert [[child.tag for child in case] for case in suites] == [["skipped"], ["skipped"]]
    record = done.record
    assert (record["complete"], record["exit_code"]) == (False, 3)
    assert "part 1 of 2 by images, which has no verdict of its own" in record["reason"]
    assert record["shard"] | {"pairs": []} == {"index": 1, "count": 2, "pairs": [], "by": "images", "otherwise": 0}
    for pair in record["pairs"]:
        assert (pair["comparisons"], pair["gate"], pair["steps"], pair["largest_loss"]) == ([], None, [], None)
    summary = (done.place / "summary.md").read_text()
    assert "INCOMPLETE" in summary
    assert json.loads((done.place / "badge.json").read_text())["message"] == "INCOMPLETE part 1 of 2"
    # The glossary at the end tells what verdicts there are.
    page = (done.place / "report.html").read_text().partition('<section id="glossary"')[0]
    page = re.sub(r"<style>.*?</style>|<[^>]*>", "", page, flags=re.DOTALL)
    assert "part 1 of 2 by images" in page
    for text in (summary, page, done.output, json.dumps(record)):
        assert not [word for word in ("PASS", "FAIL", "INCONCLUSIVE") if word in text]
    assert main(["compare", str(done.place), str(done.place)]) == 3


@pytest.mark.thorough
def test_with_workers_and_without_parts_are_alike(run: Start, suite: Path) -> None:
    whole = run(*FEW).place
    parts = [run(*FEW, *by_images("1/2"), "-n2").place, run(*FEW, *by_images("2/2")).place]
    _, folder = merge(parts, suite / "joined")
    assert [pair["comparisons"] for pair in pairs_in(folder).values()] == [
        pair["comparisons"] for pair in pairs_in(whole).values()
    ]
    for name in pairs_in(whole):
        assert read_predictions(folder, name) == read_predictions(whole, name)


def test_images_that_are_there_twice(run: Start, suite: Path) -> None:
    """Three images, each of them four times: parts share contents and no image."""
    for name, colour in (("dark", 10), ("grey", 120), ("light", 250)):
        (suite / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (28, 28), (colour, colour, colour)).save(suite / "images" / name / f"{number}.png")
    options = ("--emt-image-set", str(suite / "images"), "--emt-limit", "12", "--emt-tolerance", "0.5")
    whole = run(*options).place
    _, folder = merge(parts_of(run, 5, *options), suite / "joined")
    (name,) = pairs_in(whole)
    rows = read_predictions(folder, name)
    assert rows == read_predictions(whole, name)
    assert len({(row.image, row.occurrence) for row in rows}) == 12
    assert len({row.image for row in rows}) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--emt-shard-by", "images"), "--emt-shard-by images says how to part; say into what with --emt-shard K/N"),
        (("--emt-shard", "1/2", "--emt-shard-by", "rows"), "unknown --emt-shard-by 'rows'; known: pairs, images"),
        ((*by_images("1/9"), "--emt-limit", "8"), "there are 8 images of each set (--emt-limit), so at most 8 parts"),
        ((*by_images("1/2"), "--emt-early-stop"), "does not go with --emt-early-stop, since it stops by the outcomes of all"),
        ((*by_images("1/2"), "--emt-image", "012345"), "does not go with --emt-image, since it looks at single images"),
        (
            (*by_images("1/2"), "--emt-history", "h.jsonl"),
            "does not go with --emt-history, since a part of a pair has",
        ),
        ((*by_images("1/2"), "--emt-compare", "."), "--emt-compare"),
        ((*by_images("1/2"), "--emt-throughput"), "does not go with --emt-throughput, since it measures no pair"),
        (
            (*by_images("1/2"), "--emt-update-tolerances", "--emt-tolerances", "t.toml"),
            "since a part of a pair has no loss",
        ),
        (
            (*by_images("1/2"), "--emt-checkpoint", str(REPOSITORY / "fixtures/mini/adapters/lora-emoji/*")),
            "does not go with --emt-checkpoint, since a trajectory is drawn from all images",
        ),
    ],
)
def test_what_does_not_go_with_parts_is_refused_at_start(run: Start, options: tuple[str, ...], says: str) -> None:
    done = run(*options)
    assert done.code == 4, done.output
    assert says in done.output
    assert "Traceback" not in done.output


def test_more_parts_than_images_could_not_run(run: Start) -> None:
    """Every part says so, the first as the last, before any image is measured."""
    for shard in ("1/900", "900/900"):
        done = run(*EMOJI, *by_images(shard))
        assert done.code == 3, done.output
        assert "emoji-mini has 314 images to measure, which cannot be parted into 900: make no more parts" in " ".join(
            done.output.split()
        )
        assert done.record["pairs"][0]["n"] == 0


def test_probes_that_are_fitted_on_the_evaluated_images_are_not_parted(run: Start, suite: Path) -> None:
    for name, colour in (("dark", 10), ("light", 250)):
        (suite / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (28, 28), (colour, colour, colour + number % 6)).save(suite / "images" / name / f"{number}.png")
    options = ("--emt-image-set", str(suite / "images"), *by_images("1/2"))
    done = run(*options, "--emt-scorer", "answer,likelihood")
    assert done.code == 3, done.output
    assert "has no training split, so probes are fitted on the evaluated images" in done.output
    assert "or leave the probes out with --emt-probe-images 0" in done.output
    assert run(*options, "--emt-scorer", "answer,likelihood", "--emt-probe-images", "0").record["shard"]["otherwise"] == 0


@pytest.fixture
def parts(run: Start) -> list[Path]:
    return parts_of(run, 2, *MNIST, "--emt-limit", "20", "--emt-tolerance", "0.5")


def refused(folders: list[Path], suite: Path) -> str:
    with pytest.raises(MergeError) as error:
        merge(folders, suite / "joined")
    assert not (suite / "joined").exists()
    return str(error.value)


def test_parts_that_make_no_whole_are_refused(run: Start, suite: Path, parts: list[Path]) -> None:
    first, second = parts
    assert "shard 2/2 is missing; run it with --emt-shard 2/2 --emt-shard-by images" in refused([first], suite)
    again = run(*MNIST, "--emt-limit", "20", "--emt-tolerance", "0.5", *by_images("1/2")).place
    assert "are both part 1 of 2; leave out one of the two" in refused([first, again, second], suite)
    by_pairs = run(*MNIST, *EMOJI, "--emt-limit", "20", "--emt-tolerance", "0.5", "--emt-shard", "2/2").place
    assert "is no part of the same 2 shards by images" in refused([first, by_pairs], suite)
    of_three = run(*MNIST, "--emt-limit", "20", "--emt-tolerance", "0.5", *by_images("2/3")).place
    assert "is no part of the same 2 shards by images" in refused([first, of_three], suite)
    of_more = run(*MNIST, "--emt-limit", "22", "--emt-tolerance", "0.5", *by_images("2/2")).place
    assert "were made with another compute" in refused([first, of_more], suite)
    strict = run(*MNIST, "--emt-limit", "20", "--emt-tolerance", "0.4", *by_images("2/2")).place
    assert "were made with another tolerance" in refused([first, strict], suite)


@pytest.mark.parametrize(
    ("of", "entry", "says"),
    [
        ("models", 'source = "bundled:llava-mini-forgot"', "measured other weights as it"),
        ("image_sets", 'source = "bundled:digits-mini"', "with another selection of images"),
        ("image_sets", 'source = "bundled:mnist-mini"\nprompt = "Which one is this: {labels}?"', "with another prompt"),
    ],
    ids=["weights", "images", "prompt"],
)
def test_parts_of_other_things_under_one_name_are_refused(run: Start, suite: Path, of: str, entry: str, says: str) -> None:
    named = {
        "models": 'source = "bundled:llava-mini"\nencoder = "bundled:clip-mini"',
        "image_sets": 'source = "bundled:mnist-mini"',
    }
    catalog = suite / "catalog.toml"
    option = ("--emt-catalog", str(catalog), "--emt-limit", "20", "--emt-model", "it", "--emt-image-set", "there")
    folders = []
    for index, changed in enumerate(({}, {of: f"{entry}\n" + ('encoder = "bundled:clip-mini"' if of == "models" else "")}), 1):
        found = named | changed
        catalog.write_text(f'[models.it]\n{found["models"]}\n[image_sets.there]\n{found["image_sets"]}\nnames = "numbers"\n')
        folders.append(run(*option, *by_images(f"{index}/2")).place)
    assert says in refused(folders, suite)


def test_predictions_that_are_not_the_parts_own_are_refused(suite: Path, parts: list[Path]) -> None:
    torn = suite / "torn"
    shutil.copytree(parts[1], torn)
    (file,) = (torn / "predictions").iterdir()
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert "(part 2 of 2) are not those of its 10 images" in refused([parts[0], torn], suite)
    file.unlink()
    assert "(part 2 of 2) are not those of its 10 images" in refused([parts[0], torn], suite)


CRASH = """\
import os, signal, pytest
from emt_plugin.records import Journal

append = Journal.append

def killed(self, pair, rows):
    append(self, pair, rows)
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)

Journal.append = killed
"""


@pytest.mark.thorough
def test_a_part_whose_worker_was_killed_leaves_the_pair_crashed(run: Start, suite: Path) -> None:
    options = (*MNIST, "--emt-limit", "20", "--emt-tolerance", "0.5", "--emt-batch-size", "4", "--emt-store=off")
    first = run(*options, *by_images("1/2")).place
    (suite / "conftest.py").write_text(CRASH)
    crashed = run(*options, *by_images("2/2"), "-n2", "--max-worker-restart=0")
    assert crashed.code == 3, crashed.output
    assert len(read_predictions(crashed.place, "llava-mini__mnist-mini")) == 4
    joined, folder = merge([first, crashed.place], suite / "joined")
    (pair,) = joined.pairs
    assert (joined.exit_code, joined.complete, pair.status, pair.n, pair.gate) == (3, False, "crashed", 14, None)
    assert pair.reason == "part 2 of 2: its worker crashed (4 images were measured)"
    assert len(read_predictions(folder, "llava-mini__mnist-mini")) == 14
    assert main(["merge", str(first), str(crashed.place), "--out", str(suite / "again")]) == 3


def test_an_ordinary_test_that_fails_in_a_part_fails_the_whole(run: Start, suite: Path) -> None:
    (suite / "test_other.py").write_text("def test_other():\n    assert False\n")
    options = (*MNIST, "--emt-limit", "20", "--emt-tolerance", "0.5")
    first = run(*options, *by_images("1/2"))
    assert (first.code, first.record["shard"]["otherwise"]) == (3, 1)
    failed = first.place
    (suite / "test_other.py").unlink()
    joined, _ = merge([failed, run(*options, *by_images("2/2")).place], suite / "joined")
    assert (joined.exit_code, joined.complete) == (1, True)
    assert [pair.gating.verdict for pair in joined.pairs if pair.gating] == ["PASS"]


def test_a_suite_of_ones_own_measures_all_its_pairs_in_every_part(run: Start, suite: Path) -> None:
    """No check ends its test, since the next pair of the test would be missing from the whole."""
    (suite / "test_forgetting.py").write_text(
        "def test_both(emt):\n    emt.check('llava-mini', 'mnist-mini', tolerance=0.5)\n"
        "    emt.check('llava-mini', 'digits-mini', tolerance=0.5)\n"
    )
    options = (*MNIST, *DIGITS, "--emt-limit", "20")
    parts = parts_of(run, 2, *options)
    assert [RunRecord.read(part).exit_code for part in parts] == [3, 3]
    joined, _ = merge(parts, suite / "joined")
    assert (joined.exit_code, [pair.n for pair in joined.pairs]) == (0, [20, 20])
