"""Runs of the installed plugin in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch  # noqa: F401  # before any in-process run, see _imported

from emt_plugin.catalog import Catalog
from emt_plugin.evaluation import Evaluator
from emt_plugin.settings import Compute, Settings

REPOSITORY = Path(__file__).parents[2]
GATE = (REPOSITORY / "benchmarks" / "test_forgetting.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    code: int
    output: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The run record of the newest run."""
        found = sorted((self.folder / "reports").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return json.loads(found[-1].read_text(encoding="utf-8"))

    @property
    def place(self) -> Path:
        """The newest run's folder."""
        return self.folder / "reports" / self.record["run_id"]

    def pair(self, name: str) -> dict[str, Any]:
        """One pair of the record by ``model/image_set``."""
        return next(pair for pair in self.record["pairs"] if f"{pair['model']}/{pair['image_set']}" == name)


def environment() -> dict[str, str]:
    """The environment without what pytest-xdist and coverage of an outer run left there."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def _imported() -> None:
    """Load everything heavy once: an in-process run forgets what it was first to import, and torch loads only once."""
    catalog = Catalog.load()
    evaluator = Evaluator(Settings(compute=Compute(limit=2)), None, print)
    evaluator.measure(evaluator.model(catalog.model("llava-mini")), evaluator.image_set(catalog.image_set("mnist-mini")))
    evaluator.close()


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests of other things than the store have computed, for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store"


@pytest.fixture
def suite(pytester: pytest.Pytester, request: pytest.FixtureRequest, shared_store: Path) -> Path:
    """A folder with the gate and nothing else, as a team that installed the package might have."""
    (pytester.path / "test_forgetting.py").write_text(GATE, encoding="utf-8")
    own = request.node.get_closest_marker("own_store") is not None
    (pytester.path / "pytest.ini").write_text("[pytest]\n" if own else f"[pytest]\nemt_store_dir = {shared_store}\n")
    return pytester.path


@pytest.fixture
def run(suite: Path, pytester: pytest.Pytester, _imported: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run pytest in the suite's folder: in this process without workers, in one of its own with them."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        monkeypatch.delenv(name)

    def start(*arguments: str, **variables: str) -> Run:
        every = ("-p", "no:hypothesispytest", *arguments)
        if variables or "-n2" in arguments:
            return in_a_process(suite, every, variables)
        done = pytester.runpytest_inprocess(*every)
        return Run(int(done.ret), done.stdout.str() + done.stderr.str(), suite)

    return start


def in_a_process(folder: Path, arguments: Sequence[str], variables: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Run pytest as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder, env={**environment(), **variables}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout + done.stderr, folder)


def install(site: Path, module: str, code: str, group: str, points: Mapping[str, str]) -> None:
    """Make a folder hold a package that somebody else wrote, with its entry points.

    Args:
        site: the folder, which is to be on the path.
        module: the package's one module.
        code: what is in it.
        group: of the entry points.
        points: what each name stands for.
    """
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *(f"{name} = {at}" for name, at in points.items())]))


SERIAL_AND_WORKERS = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
# What workers add here is shown by other tests too.
WORKERS_LATER = pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"]
)
# What `-n0` adds to no `-n` is in how pytest-xdist is set up, which one test shows.
EVERY_WAY = pytest.mark.parametrize("workers", [(), ("-n0",), ("-n2",)], ids=["serial", "n0", "n2"])
