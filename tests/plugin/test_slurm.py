"""The files for SLURM, run by bash with the variables that SLURM sets, on the bundled models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import GATE, REPOSITORY, environment

EXAMPLES = REPOSITORY / "examples" / "slurm"
OPTIONS = ("--emt-model", "llava-mini-forgot", "--emt-image-set", "mnist-mini", "--emt-image-set", "digits-mini",
           "--emt-limit", "40", "--emt-tolerance", "0.01")  # fmt: skip
# Runs what is submitted at once: an array's jobs one after the other, the one that LOST names not at all.
SBATCH = """\
#!/bin/bash
array=""
while [[ $1 == --* ]]; do
    case $1 in
        --array=0-*) array=${1#--array=0-} ;;
        --parsable | --wait | --dependency=afterany:4711) ;;
        *) echo "sbatch: unknown option $1" >&2; exit 64 ;;
    esac
    shift
done
export SLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=4712
if [[ -z $array ]]; then exec bash "$@"; fi
export SLURM_ARRAY_JOB_ID=4711 SLURM_ARRAY_TASK_COUNT=$((array + 1))
for SLURM_ARRAY_TASK_ID in $(seq 0 "$array"); do
    export SLURM_ARRAY_TASK_ID
    [[ ${LOST:-} == "$SLURM_ARRAY_TASK_ID" ]] || bash "$@" >"part-$SLURM_ARRAY_TASK_ID.log" 2>&1 || true
done
echo "4711;cluster"
"""


def started(folder: Path, count: int, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The gate over an array of so many jobs, with a stand-in for sbatch."""
    (folder / "test_forgetting.py").write_text(GATE, encoding="utf-8")
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "sbatch").write_text(SBATCH)
    for name, module in (("pytest", "pytest"), ("emt", "emt_plugin.cli")):
        (folder / "bin" / name).write_text(f'#!/bin/bash\nexec {sys.executable} -m {module} "$@"\n')
    for file in (folder / "bin").iterdir():
        file.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(EXAMPLES / "gate.sh"), str(count), *options],
        cwd=folder, env={**environment(), "PATH": path, "EMT_SUITE": "-p no:hypothesispytest", **variables},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def verdicts(run: Path) -> list[tuple[Any, ...]]:
    record = json.loads((run / "run.json").read_text())
    return [(pair["n"], pair["comparisons"][pair["gate"]]["verdict"]) for pair in record["pairs"]]


@pytest.mark.thorough
def test_an_array_by_images_ends_with_the_exit_code_of_the_gate(tmp_path: Path) -> None:
    done = started(tmp_path, 2, *OPTIONS, "--emt-shard-by", "images")
    assert done.returncode == 1, done.stdout + done.stderr
    (joined,) = (tmp_path / "emt" / "gate").iterdir()
    assert [n for n, _ in verdicts(joined)] == [40, 40]
    assert "FAIL" in {verdict for _, verdict in verdicts(joined)}
    parts = [json.loads(file.read_text())["shard"]["index"] for file in (tmp_path / "emt/parts/4711").glob("*/run.json")]
    assert sorted(parts) == [1, 2]


@pytest.mark.thorough
def test_a_job_that_is_lost_makes_the_gate_incomplete_until_it_is_run_again(tmp_path: Path) -> None:
    """An array by pairs, of which one is not run; then that one alone, as the file says."""
    done = started(tmp_path, 2, *OPTIONS, LOST="1")
    assert done.returncode == 3
    assert "shard 2/2 is missing; run it with --emt-shard 2/2" in done.stderr
    variables = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "4713", "SLURM_ARRAY_TASK_COUNT": "1", "EMT_RUN": "4711",
                 "EMT_COUNT": "2", "SLURM_SUBMIT_DIR": str(tmp_path), "EMT_SUITE": "-p no:hypothesispytest"}  # fmt: skip
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for script, arguments, codes in (("part.sbatch", OPTIONS, {1, 7}), ("merge.sbatch", ("4711",), {1})):
        again = subprocess.run(
            ["bash", str(EXAMPLES / script), *arguments],
            cwd=tmp_path, env={**environment(), "PATH": path, **variables}, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert again.returncode in codes, again.stdout + again.stderr
    (joined,) = (tmp_path / "emt" / "gate").iterdir()
    assert [n for n, _ in verdicts(joined)] == [40, 40]
