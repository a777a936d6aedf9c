"""What workers are given, what a crash or Ctrl-C leaves, and who waits for whom. All in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from emt_plugin.catalog import bundled_folder
from tests.plugin.conftest import Run, environment, in_a_process

Start = Callable[..., Run]

KILLER = """\
import os, signal, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    if call.when == "setup" and "digits-mini" in item.nodeid and "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""

LOADS = """\
import os, pathlib
from emt_plugin.evaluation.models import ModelLoader

load = ModelLoader._load

def counted(self, model):
    with open(os.environ["LOADS"], "a") as file:
        file.write(f"{model.spec.id} {os.getpid()}\\n")
    return load(self, model)

ModelLoader._load = counted
"""

REPORT_ENVIRONMENT = """\
import json, os, pathlib, signal, pytest

@pytest.mark.parametrize("number", range(4))
def test_environment(number):
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTEST_XDIST_WORKER")
    seen = {name: os.environ.get(name) for name in names}
    pathlib.Path("seen.jsonl").open("a").write(json.dumps(seen) + "\\n")
    if os.environ.get("KILL") == str(number):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def copies(folder: Path, names: list[str]) -> list[str]:
    """Models of different names and the same weights."""
    for name in names:
        (folder / name).symlink_to(bundled_folder() / "models" / "llava-mini")
    return [argument for name in names for argument in ("--emt-model", f"./{name}")]


def test_a_killed_worker_costs_its_pair_and_nothing_else(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(KILLER)
    done = run("--emt-model", "llava-mini", "--emt-limit", "100", "-n2")
    assert done.code == 3, done.output
    statuses = {pair["image_set"]: pair["status"] for pair in done.record["pairs"]}
    assert statuses.pop("digits-mini") == "crashed"
    assert set(statuses.values()) == {"measured"}
    assert not done.record["complete"]
    assert "CRASHED" in done.output
    # The images that it had measured are not lost.
    assert done.pair("llava-mini/digits-mini")["n"] == 100
    assert len((done.place / "predictions" / "llava-mini__digits-mini.jsonl").read_text().splitlines()) == 100
    assert "CRASHED" in (done.place / "report.html").read_text()


def test_a_killed_worker_that_may_not_be_replaced(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(KILLER)
    done = run("--emt-model", "llava-mini", "--emt-limit", "60", "-n1", "--max-worker-restart=0")
    assert done.code == 3, done.output
    assert {"crashed", "not-run"} <= {pair["status"] for pair in done.record["pairs"]}


@pytest.mark.own_store
@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_ctrl_c_keeps_what_was_measured(suite: Path, workers: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "pytest", "--emt-model", "llava-mini", "--emt-batch-size", "1", *workers]
    running = subprocess.Popen(
        command,
        cwd=suite,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and not any(b'"rows"' in p.read_bytes() for p in suite.glob("reports/*/journal/*.jsonl")):
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # a terminal sends Ctrl-C to the whole group
    output, _ = running.communicate(timeout=120)
    done = Run(running.returncode, output, suite)
    assert done.code == 2, done.output
    record = done.record
    assert (record["complete"], record["exit_code"]) == (False, 2)
    partly = [pair for pair in record["pairs"] if pair["n"]]
    assert partly
    rows = (done.place / "predictions" / f"llava-mini__{partly[0]['image_set']}.jsonl").read_text().splitlines()
    assert len(rows) == partly[0]["n"] > 0
    assert json.loads(rows[0])["answer"]
    assert "INCOMPLETE" in (done.place / "report.html").read_text()


@pytest.mark.own_store
@pytest.mark.thorough
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_four_models_load_once_each(suite: Path, workers: str) -> None:
    (suite / "conftest.py").write_text(LOADS)
    models = copies(suite, ["a", "b", "c", "d"])
    sets = ("--emt-image-set", "mnist-mini", "--emt-image-set", "digits-mini", "--emt-image-set", "emoji-mini")
    done = in_a_process(
        suite, (*models, *sets, "--emt-limit", "5", "--emt-store=off", workers), {"LOADS": str(suite / "loads")}
    )
    assert len(done.record["pairs"]) == 12
    loads = Counter(line.split()[0] for line in (suite / "loads").read_text().splitlines())
    assert loads == dict.fromkeys("abcd", 1)


@pytest.mark.thorough
@pytest.mark.own_store
def test_one_model_keeps_all_workers_busy(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(LOADS)
    done = run("--emt-model", "llava-mini", "--emt-limit", "5", "-n2", LOADS=str(suite / "loads"))
    assert len(done.record["pairs"]) == 4
    assert len({line.split()[1] for line in (suite / "loads").read_text().splitlines()}) == 2


def test_more_workers_than_pairs_are_told(run: Start) -> None:
    done = run("--emt-image-set", "emoji-mini", "--emt-limit", "5", "-n2")
    assert "emt: 1 pairs keep at most 1 of 2 workers busy" in done.output
    assert len(done.record["pairs"]) == 1


def test_workers_are_dealt_devices_and_cores_and_replacements_inherit(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what a user sets stands
    (suite / "test_forgetting.py").write_text(REPORT_ENVIRONMENT)
    done = in_a_process(suite, ("--emt-model", "llava-mini", "-n2"), {"CUDA_VISIBLE_DEVICES": "3,7", "KILL": "1"})
    assert "crashed while running" in done.output
    seen = [json.loads(line) for line in (suite / "seen.jsonl").read_text().splitlines()]
    assert len(seen) == 4
    assert {entry["CUDA_VISIBLE_DEVICES"] for entry in seen} == {"3", "7"}
    assert {entry["OMP_NUM_THREADS"] for entry in seen} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    by_worker = {entry["PYTEST_XDIST_WORKER"]: entry["CUDA_VISIBLE_DEVICES"] for entry in seen}
    if "gw2" in by_worker:  # the replacement, where a test was left for it
        assert by_worker["gw2"] in {"3", "7"}


@pytest.mark.parametrize(("options", "workers"), [(("--emt-model", "llava-mini"), 3), ((), None)], ids=["gate", "foreign"])
def test_n_auto_is_one_worker_for_each_gpu(suite: Path, options: tuple[str, ...], workers: int | None) -> None:
    (suite / "test_forgetting.py").write_text("def test_nothing():\n    pass\n")
    done = in_a_process(suite, (*options, "-n", "auto"), {"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert ("3 workers [1 item]" in done.output) is (workers == 3), done.output


@pytest.mark.thorough
@pytest.mark.own_store
def test_a_device_that_holds_one_copy_is_shared_in_turn(run: Start, suite: Path) -> None:
    models = copies(suite, ["a", "b"])
    done = run(*models, "--emt-image-set", "mnist-mini", "--emt-limit", "200", "--emt-memory", "20MB", "-n2")
    assert [pair["status"] for pair in done.record["pairs"]] == ["measured", "measured"], done.output
    waits = [line for line in done.output.splitlines() if "waits for memory on cpu" in line]
    assert waits, done.output
    assert len(set(waits)) == len(waits)  # for the model, and perhaps again for its encoder


@pytest.mark.own_store
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_a_device_that_never_holds_a_copy_could_not_run(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-memory", "1MB", *workers)
    assert done.code == 3, done.output
    assert "and cpu has 1 MB for models; use a larger device" in done.output


def test_an_untested_xdist_gets_its_own_scheduler_and_one_warning(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(
        "import emt_plugin.pytest_plugin.workers\nemt_plugin.pytest_plugin.workers.TESTED_XDIST = '0.0.'\n"
    )
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "60", "-n2")
    assert done.output.count("is not the tested 0.0.*: its own scheduler is used") == 1
    assert [pair["status"] for pair in done.record["pairs"]] == ["measured"]
