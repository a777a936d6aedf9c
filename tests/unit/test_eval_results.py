"""Results for the hub, read back by the hub's own client and held against numbers by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from emt_plugin.gate import Tolerance
from emt_plugin.records import PairKey, PairRecord, RunRecord
from emt_plugin.report.writers.eval_results import write_eval_results
from tests.unit.test_records import make_pair, make_run

COMMIT = "0b2714987fa478483af9968de7c934580d0bb9a2"
HUB = {"source": "uoft-cs/cifar10", "kind": "hub", "config": None, "split": "test", "revision": None}


def pair_on(name: str, checkpoint: str | None = None, right: int = 60, lost: int = 30, **facts: Any) -> PairRecord:
    pair = make_pair(right, lost)
    comparison = replace(pair.comparisons[0], low=-0.375, high=-0.226)
    key = PairKey("model", name, checkpoint)
    return replace(pair, key=key, comparisons=(comparison,), image_set_facts={**HUB, **facts})


def run_of(*pairs: PairRecord) -> RunRecord:
    return replace(make_run(*pairs), environment={"pytest_emt": "1.2.3"})


def read(path: Path) -> EvalResultEntry:
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
    return entry


def test_each_model_gets_a_folder_that_goes_into_its_repository(tmp_path: Path) -> None:
    bundled = pair_on("emoji-mini", source="bundled:emoji-mini", kind="parquet")
    crashed = replace(pair_on("gone"), status="crashed")
    run_of(pair_on("cifar10"), bundled, crashed, pair_on("mnist"), pair_on("cifar10", "checkpoint-2")).write(tmp_path)
    paths = write_eval_results(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "eval_results/model/.eval_results/cifar10.yaml",
        "eval_results/model/.eval_results/mnist.yaml",
        "eval_results/model@checkpoint-2/.eval_results/cifar10.yaml",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([*paths, tmp_path / "run.json"])


def test_a_record_from_elsewhere_writes_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "run"
    folder.mkdir(parents=True)
    pair = pair_on("cifar10")
    run_of(replace(pair, key=PairKey("..", "../../../../../evil"))).write(folder)
    (path,) = write_eval_results(folder)
    assert path.resolve().is_relative_to(folder / "eval_results")
    assert list(tmp_path.rglob("*.yaml")) == [path]


def test_an_entry_by_hand(tmp_path: Path) -> None:
    run_of(pair_on("cifar10", config="plain_text", revision=COMMIT)).write(tmp_path)
    (path,) = write_eval_results(tmp_path)
    assert read(path) == EvalResultEntry(
        dataset_id="uoft-cs/cifar10",
        task_id="plain_text",
        value=60.0,
        dataset_revision=COMMIT,
        date="2026-01-01T00:00:00+00:00",
        notes="accuracy in percent; scorer answer 1; 100 of 500 images, config plain_text, split test; "
        "vision encoder clip 90.0%; gap to encoder clip −30.0 points, 90% interval [−37.5, −22.6]; "
        "tolerance 5 points; FAIL; pytest-emt 1.2.3",
    )
    # A date that YAML reads as one would not be the string that the format has.
    assert yaml.safe_load(path.read_text(encoding="utf-8"))[0]["date"] == "2026-01-01T00:00:00+00:00"


def test_the_value_is_of_the_scorer_that_gates_to_two_decimals(tmp_path: Path) -> None:
    pair = pair_on("cifar10", right=67)
    second = replace(pair.scores[0], scorer="likelihood", correct=9)
    run_of(replace(pair, n=130, scores=(pair.scores[0], second))).write(tmp_path)
    (path,) = write_eval_results(tmp_path)
    assert read(path).value == 51.54  # 67 of 130 are 51.538...
    assert "130 of 500 images" in (read(path).notes or "")


def test_a_branch_is_no_revision(tmp_path: Path) -> None:
    run_of(pair_on("cifar10", revision="main")).write(tmp_path)
    (path,) = write_eval_results(tmp_path)
    assert read(path).dataset_revision is None
    assert read(path).task_id == "default"
    assert "100 of 500 images, split test, revision main;" in (read(path).notes or "")


def test_an_accepted_loss_and_a_missing_verdict_are_said(tmp_path: Path) -> None:
    pair = pair_on("cifar10")
    tolerance = Tolerance(0.4, "accepted loss", 0.05, accepted=True)
    accepted = replace(pair, comparisons=(replace(pair.comparisons[0], tolerance=tolerance, verdict="PASS"),))
    unknown = replace(pair_on("mnist"), comparisons=(), gate=None, encoder=None, reason="no encoder is known")
    run_of(accepted, unknown).write(tmp_path)
    first, second = write_eval_results(tmp_path)
    assert "tolerance 40 points; PASS (accepted 0.4, policy 0.05); pytest-emt" in (read(first).notes or "")
    assert read(second).notes == (
        "accuracy in percent; scorer answer 1; 100 of 500 images, split test; NO VERDICT; pytest-emt 1.2.3"
    )


@pytest.mark.parametrize(
    ("source", "kind", "written"),
    [
        ("uoft-cs/cifar10", "hub", True),
        ("uoft-cs/cifar10", "parquet", False),  # a folder of that name on this machine
        ("/data/pets", "folder", False),
        ("bundled:emoji-mini", "parquet", False),
        # Records of earlier versions.
        ("uoft-cs/cifar10", None, True),
        ("bundled:emoji-mini", None, False),
        ("./data/pets", None, False),
        ("/data/pets", None, False),
        ("pets.parquet", None, False),
    ],
)
def test_only_the_hubs_image_sets_have_a_place_there(tmp_path: Path, source: str, kind: str | None, written: bool) -> None:
    pair = pair_on("set", source=source)
    facts = {name: value for name, value in (pair.image_set_facts | {"kind": kind}).items() if value is not None}
    run_of(replace(pair, image_set_facts=facts)).write(tmp_path)
    assert bool(write_eval_results(tmp_path)) is written
    assert (tmp_path / "eval_results").exists() is written


IMPORTS = """\
import sys
from pathlib import Path
from emt_plugin.report.writers.eval_results import write_eval_results

written = write_eval_results(Path(sys.argv[1]))
print(len(written), [name for name in ("huggingface_hub", "yaml", "torch", "numpy") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("facts", "says"),
    [({"source": "bundled:emoji-mini", "kind": "parquet"}, "0 []"), (HUB, "1 ['huggingface_hub', 'yaml']")],
    ids=["bundled", "hub"],
)
def test_the_hubs_client_is_imported_only_to_write(tmp_path: Path, facts: dict[str, Any], says: str) -> None:
    run_of(pair_on("set", **facts)).write(tmp_path)
    done = subprocess.run([sys.executable, "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == says
