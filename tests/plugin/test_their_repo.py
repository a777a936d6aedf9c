"""examples/their-repo: a repository of somebody else's, with the gate among its tests."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.plugin.conftest import Run, in_a_process

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "their-repo"
WORKFLOW = EXAMPLE / ".github" / "workflows" / "tests.yml"


def steps() -> list[dict[str, str]]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["tests"]["steps"]


def run(folder: Path, store: Path, *more: str) -> Run:
    """What its workflow runs, word for word, with results that other tests may have computed."""
    (command,) = (step["run"] for step in steps() if step.get("id") == "test")
    program, *arguments = shlex.split(command)
    assert program == "pytest"
    variables = {
        "PYTHONPATH": str(REPOSITORY),
        "PYTEST_ADDOPTS": f"-p no:benchmark -p no:hypothesispytest --emt-store-dir={store}",
    }
    return in_a_process(folder, (*arguments, *more), variables)


@pytest.fixture
def their_repo(tmp_path: Path) -> Path:
    return shutil.copytree(EXAMPLE, tmp_path / "their-repo")


def test_its_tests_are_found(their_repo: Path, shared_store: Path) -> None:
    done = run(their_repo, shared_store, "--collect-only", "-q")
    assert done.code == 0, done.output
    assert "3 tests collected" in done.output


@pytest.mark.thorough
def test_the_gate_runs_among_its_tests(their_repo: Path, shared_store: Path) -> None:
    done = run(their_repo, shared_store)
    assert done.code == 0, done.output
    assert "3 passed" in done.output
    (upload,) = (step["with"]["path"] for step in steps() if "upload-artifact" in step.get("uses", ""))
    assert len(list(their_repo.glob(upload))) == 1


@pytest.mark.thorough
def test_a_model_that_forgot_does_not_get_through(their_repo: Path, shared_store: Path) -> None:
    catalog = their_repo / "emt.toml"
    catalog.write_text(catalog.read_text(encoding="utf-8").replace("bundled:llava-mini", "bundled:llava-mini-forgot"))
    done = run(their_repo, shared_store, "-k", "digits or arithmetic")
    assert done.code == 1, done.output
    assert "1 failed, 1 passed" in done.output


def test_its_readme_names_every_file() -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    files = {path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*") if path.is_file()}
    shown = {name for name in files if f"]({name})" in text}
    assert files - shown == {"README.md"}


def test_its_workflow_hides_no_exit_code_and_may_only_read() -> None:
    assert yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    for step in steps():
        assert not {"continue-on-error", "shell"} & step.keys()
        assert not any(hides in step.get("run", "") for hides in ("||", "|", ";", "make "))
