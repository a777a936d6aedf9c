"""The gate from Python: the same run as pytest's, and what is wrong with what was asked in the same sentences."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import emt_plugin as emt
from emt_plugin.session.environment import call
from tests.plugin.conftest import SERIAL_AND_WORKERS, Run, install

Start = Callable[..., Run]
Acting = Callable[[str], list[str]]
# What is another's by design: a random name, and what it took.
OWN = ("measurement", "timing")
SETS = ("mnist-mini", "digits-mini", "emoji-mini")


@pytest.fixture
def here(suite: Path, shared_store: Path, _imported: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite's folder as the working directory, with the store of the other tests."""
    monkeypatch.chdir(suite)
    return suite


def pairs_of(folder: Path) -> list[dict[str, Any]]:
    pairs = json.loads((folder / "run.json").read_text())["pairs"]
    return [{name: value for name, value in pair.items() if name not in OWN} for pair in pairs]


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_its_run_is_that_of_pytest(run: Start, here: Path) -> None:
    done = run(
        "--emt-model", "llava-mini-forgot", "--emt-image-set", "digits-mini", "--emt-image-set", "emoji-mini",
        "--emt-limit", "60", "--emt-scorer", "answer,likelihood", "--emt-tolerance", "0.05", "--emt-store", "off",
        "--emt-probe-images", "5", "--emt-batch-size", "32",
    )  # fmt: skip
    place = done.place
    found = emt.evaluate(
        "llava-mini-forgot", ["digits-mini", "emoji-mini"], limit=60, scorers=["answer", "likelihood"], tolerance=0.05,
        store="off", probe_images=5, batch_size=32,
    )  # fmt: skip
    assert found.folder != place
    assert pairs_of(found.folder) == pairs_of(place)
    assert names_in(found.folder) == names_in(place)
    for path in (place / "predictions").iterdir():
        assert (found.folder / "predictions" / path.name).read_bytes() == path.read_bytes()
    theirs, mine = (json.loads((folder / "run.json").read_text()) for folder in (place, found.folder))
    for name in ("schema", "complete", "exit_code", "reason", "trajectories", "changes", "trends", "shard", "merged_from"):
        assert mine[name] == theirs[name]
    assert done.code == found.exit_code == 1
    for settings in (theirs["settings"], mine["settings"]):
        # Who named several scorers at once wrote them with a comma.
        settings["given"]["scorer"] = [name for names in settings["given"]["scorer"] for name in names.split(",")]
    assert mine["settings"] == theirs["settings"]
    del theirs["environment"]["command"]
    assert mine["environment"].pop("command") == (
        "emt.evaluate(model='llava-mini-forgot', image_sets=['digits-mini', 'emoji-mini'], scorers=['answer', 'likelihood'], "
        "probe_images=5, limit=60, tolerance=0.05, batch_size=32, store='off')"
    )
    assert mine["environment"] == theirs["environment"]
    report = (found.folder / "report.html").read_text()
    assert "pytest benchmarks --emt-model llava-mini-forgot" in report or "emt_plugin.benchmarks --emt-model" in report


def test_it_shares_the_store_compares_and_remembers(here: Path, shared_store: Path) -> None:
    asked = {"limit": 20, "store_dir": shared_store, "history": "nights/history.jsonl"}
    first = emt.evaluate(image_sets="mnist-mini", **asked)
    second = emt.evaluate(image_sets="mnist-mini", compare="latest", report="dir", **asked)
    (pair,) = second.record.pairs
    assert pair.replay is not None
    assert pair.replay.computed == 0
    assert [change.run_id for change in second.record.changes] == [first.id]
    assert list(second.history["run"]) == [first.id, second.id]
    assert (second.folder / "report-assets").is_dir()
    assert emt.load_run().id == second.id
    assert second.record.settings["given"]["compare"] == "latest"


@pytest.mark.thorough
@SERIAL_AND_WORKERS
def test_pytest_compares_with_the_latest_by_name(run: Start, here: Path, workers: tuple[str, ...]) -> None:
    few = ("--emt-image-set", "mnist-mini", "--emt-limit", "20")
    first = run(*few).record["run_id"]
    second = run(*few, "--emt-compare", "latest", *workers).record
    assert [change["run_id"] for change in second["changes"]] == [first]
    assert second["settings"]["given"]["compare"] == "latest"
    third = run(*few, "--emt-compare", first[:-1], *workers).record
    assert [change["run_id"] for change in third["changes"]] == [first]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"model": "llvaa"}, ("--emt-model", "llvaa")),
        ({"image_sets": ["mnist-mini", "mnsit"]}, ("--emt-image-set", "mnist-mini", "--emt-image-set", "mnsit")),
        ({"image_sets": []}, ("--emt-image-set", "")),
        ({"limit": 0}, ("--emt-limit", "0")),
        ({"limit": 2.5}, ("--emt-limit", "2.5")),
        ({"repeat": True}, ("--emt-repeat", "True")),
        ({"tolerance": 5}, ("--emt-tolerance", "5")),
        ({"tolerance": 0.0}, ("--emt-tolerance", "0.0")),
        ({"batch_size": -1}, ("--emt-batch-size", "-1")),
        ({"dtype": "int8"}, ("--emt-dtype", "int8")),
        ({"device": "tpu"}, ("--emt-device", "tpu")),
        ({"memory": "lots"}, ("--emt-memory", "lots")),
        ({"memory": 0}, ("--emt-memory", "0")),
        ({"scorers": "vibes"}, ("--emt-scorer", "vibes")),
        ({"label_score": "mean"}, ("--emt-label-score", "mean")),
        ({"calibrate": True}, ("--emt-calibrate",)),
        ({"probe_images": -1}, ("--emt-probe-images", "-1")),
        ({"reference": "probe", "probe_images": 0}, ("--emt-reference", "probe", "--emt-probe-images", "0")),
        ({"reference": "llava-mini"}, ("--emt-reference", "llava-mini")),
        ({"trained_on": "mnist-mini"}, ("--emt-trained-on", "mnist-mini")),
        ({"checkpoints": "nowhere/*"}, ("--emt-checkpoint", "nowhere/*")),
        ({"images": "no hash"}, ("--emt-image", "no hash")),
        ({"early_stop": True, "repeat": 2}, ("--emt-early-stop", "--emt-repeat", "2")),
        ({"generation": "greedy"}, ("--emt-generation", "greedy")),
        ({"max_cost": 1}, ("--emt-max-cost", "1")),
        ({"tolerances": "none.toml"}, ("--emt-tolerances", "none.toml")),
        ({"catalog": "none.toml"}, ("--emt-catalog", "none.toml")),
        ({"revision": ""}, ("--emt-revision", "")),
        ({"store": "keep"}, ("--emt-store", "keep")),
        ({"store_size": "much"}, ("--emt-store-size", "much")),
        ({"compare": "yesterday"}, ("--emt-compare", "yesterday")),
        ({"report": "pdf"}, ("--emt-report", "pdf")),
        ({"reports": "pytest.ini"}, ("--emt-reports", "pytest.ini")),
        ({"history": "pytest.ini"}, ("--emt-history", "pytest.ini")),
    ],
)
def test_what_means_nothing_is_said_as_pytest_says_it(
    run: Start, here: Path, asked: dict[str, Any], options: tuple[str, ...]
) -> None:
    done = run("--emt-model=llava-mini" if "model" not in asked else "-q", *options)
    assert done.code == 4, done.output
    with pytest.raises(emt.UsageError) as error:
        emt.evaluate(**{"model": "llava-mini", **asked})
    assert f"ERROR: emt: {error.value}\n" in done.output
    assert not (here / "reports").exists()


def test_a_pair_that_could_not_run_leaves_the_others(here: Path, shared_store: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "empty").mkdir()
    caplog.set_level(logging.INFO, "emt_plugin")
    found = emt.evaluate("llava-mini", ["mnist-mini", "./empty"], limit=20, store_dir=shared_store)
    good, bad = found.record.pairs
    assert (good.status, bad.status) == ("measured", "could-not-run")
    assert bad.reason
    assert (found.exit_code, found.record.complete) == (3, False)
    assert found.verdict.startswith("INCOMPLETE: 1 of 2 pairs")
    said = [record.getMessage() for record in caplog.records if record.name == "emt_plugin"]
    assert said[0].startswith("INCONCLUSIVE llava-mini/mnist-mini: ")
    assert said[1] == f"COULD NOT RUN llava-mini/empty: {bad.reason}"
    assert said[-1] == f"report: {found.folder / 'report.html'}"


ACTS = """\
from pathlib import Path
from emt_plugin.scoring.protocol import Score

class Acts:
    name, version, wants, seen = "{name}", "1", frozenset({{"answer"}}), 0

    def __init__(self, context):
        pass

    def score(self, observation, label, labels):
        Acts.seen += 1
        if Acts.seen == 26:
            {action}
        return Score(label, True, None)
"""


@pytest.fixture
def acting(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Acting:
    """The scorers of a run of which one does something at its 26th image."""

    def make(action: str) -> list[str]:
        site = tmp_path_factory.mktemp("site")
        name = site.name.replace("-", "_")
        install(site, name, ACTS.format(name=name, action=action), "pytest_emt.scorers", {name: f"{name}:Acts"})
        monkeypatch.syspath_prepend(site)
        return ["answer", name]

    return make


def test_a_run_that_is_stopped_keeps_what_was_measured(here: Path, acting: Acting) -> None:
    scorers = acting("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        emt.evaluate(
            image_sets=["mnist-mini", "digits-mini", "emoji-mini"],
            limit=20,
            batch_size=5,
            scorers=scorers,
            store="off",
        )
    found = emt.load_run()
    assert [pair.status for pair in found.record.pairs] == ["measured", "not-run", "not-run"]
    assert [len(rows) for rows in found.rows.values()] == [20, 5, 0]
    assert (found.exit_code, found.record.complete) == (2, False)
    assert (found.folder / "report.html").is_file()


def test_a_fault_is_logged_and_leaves_the_others(
    here: Path, shared_store: Path, acting: Acting, caplog: pytest.LogCaptureFixture
) -> None:
    scorers = acting("raise ZeroDivisionError('enough')")
    found = emt.evaluate(image_sets=SETS, limit=20, batch_size=20, scorers=scorers, store_dir=shared_store)
    assert [pair.status for pair in found.record.pairs] == ["measured", "could-not-run", "measured"]
    assert str(found.record.pairs[1].reason).startswith("ZeroDivisionError, see its traceback in the log")
    assert found.exit_code == 3
    (fault,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert fault.name == "emt_plugin"
    assert "ZeroDivisionError: enough" in caplog.text


def test_a_run_that_could_not_be_written_does_not_count(here: Path, shared_store: Path, acting: Acting) -> None:
    scorers = acting("next(Path('reports').iterdir(), None).joinpath('predictions').touch()")
    with pytest.raises(emt.CouldNotRun, match=r"the run could not be written .*, so it does not count"):
        emt.evaluate(image_sets="mnist-mini", limit=30, scorers=scorers, store_dir=shared_store)
    assert emt.load_run().exit_code == 3
    assert "predictions" in str(emt.load_run().record.reason)


def test_the_log_says_which_image_sets_are_asked(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "emt_plugin")
    with pytest.raises(emt.UsageError, match="evaluate bundled ones with: pytest benchmarks"):
        emt.evaluate(here)
    assert "is not in the catalog, so the paper's image sets are asked: " in caplog.text


def test_the_call_that_a_record_keeps_tells_no_users_name() -> None:
    asked = {"model": Path("/home/me/runs/m"), "image_sets": ["/home/me", "/home/meg/x", "b'c"], "limit": 3, "calibrate": True}
    assert call("emt.evaluate", asked, Path("/home/me")) == (
        "emt.evaluate(model='~/runs/m', image_sets=['~', '/home/meg/x', \"b'c\"], limit=3, calibrate=True)"
    )
