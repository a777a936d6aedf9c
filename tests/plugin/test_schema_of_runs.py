"""Records of whole runs, held against the schema that is committed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from emt_plugin.catalog import bundled_folder
from tests.plugin.conftest import REPOSITORY, Run

Start = Callable[..., Run]
SETS = ("--emt-image-set", "emoji-mini", "--emt-image-set", "mnist-mini")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPOSITORY / "docs" / "run.schema.json").read_text(encoding="utf-8"))
    return content


def test_a_run_with_and_one_without_measurements(run: Start, schema: dict[str, Any]) -> None:
    scorers = ("--emt-scorer", "answer,likelihood", "--emt-probe-images", "5")
    measured = run("--emt-model", "llava-mini-forgot", *SETS, "--emt-limit", "40", *scorers)
    assert measured.pair("llava-mini-forgot/emoji-mini")["largest_loss"], measured.output
    Draft202012Validator(schema).validate(measured.record)
    missing = run("--emt-model", "llava", *SETS)
    assert missing.pair("llava-1.5-7b/emoji-mini")["status"] == "could-not-run", missing.output
    Draft202012Validator(schema).validate(missing.record)


def test_a_run_along_a_fine_tuning_run(run: Start, suite: Path, schema: dict[str, Any]) -> None:
    shutil.copy(REPOSITORY / "benchmarks" / "test_trajectory.py", suite)
    done = run(f"--emt-checkpoint={bundled_folder() / 'adapters' / 'linear-emoji'}/*", *SETS, "--emt-limit", "8")
    assert done.record["trajectories"][0]["keep"], done.output
    Draft202012Validator(schema).validate(done.record)
