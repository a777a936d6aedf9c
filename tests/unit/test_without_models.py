"""What reads runs that are there already needs neither torch nor transformers nor datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_history import outcomes
from tests.unit.test_run_commands import two_runs

# Raises where a package that measures is imported, then does what `emt` does.
PROGRAM = """
import sys

NOT_HERE = {"torch", "transformers", "datasets", "tokenizers", "safetensors", "huggingface_hub", "peft", "accelerate", "numpy"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NOT_HERE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
READS = """
from pathlib import Path
from emt_plugin.records import RunRecord, read_flips, read_predictions
print(RunRecord.read(Path(sys.argv[1])).run_id)
"""
COMMAND = "from emt_plugin.cli import main\nsys.exit(main())"


def done(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM + program, *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    two_runs(tmp_path, outcomes(90, 10), outcomes(60, 40))
    return tmp_path


def test_the_packages_are_blocked(tmp_path: Path) -> None:
    found = done(tmp_path, "import torch")
    assert found.returncode == 1
    assert "No module named 'torch'" in found.stderr


def test_commands_about_runs_need_no_model_library(runs: Path) -> None:
    # The second run lost 30 of 100 images: compare fails, and the joined run fails as that run did.
    for code, arguments, said in (
        (0, ("report", "two", "--compare", "one"), "report.html"),
        (1, ("compare", "one", "two"), "right to wrong: 30 images"),
        (1, ("merge", "two", "--out", "joined", "--history", "history.jsonl"), "exit code: 1"),
        (0, ("history", "history.jsonl"), "model/s"),
    ):
        found = done(runs, COMMAND, *arguments)
        assert (found.returncode, found.stderr) == (code, ""), (arguments, found.stdout)
        assert said in found.stdout, arguments
    assert (runs / "two" / "report.html").is_file()


def test_a_record_is_read_without_a_model_library(runs: Path) -> None:
    found = done(runs, READS, "two")
    assert (found.returncode, found.stdout, found.stderr) == (0, "two\n", "")
