"""The built wheel, installed where no checkout is: it gates the bundled model and serves a foreign suite."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
REPOSITORY = Path(__file__).parents[1]
PYTEST = ("-m", "pytest", "-p", "no:hypothesispytest")
RELEASE = 'def test_release(emt):\n    emt.check(model="llava-mini", image_set="mnist-mini", tolerance=0.05)\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(REPOSITORY)], check=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def python_in(folder: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_gates_the_bundled_model(site: Path, tmp_path: Path) -> None:
    used = python_in(tmp_path, site, "-c", "import emt_plugin.catalog as c; print(c.bundled_folder())")
    assert used.stdout.strip() == str(site / "emt_plugin" / "fixtures" / "mini")
    done = python_in(tmp_path, site, *PYTEST, "--pyargs", "emt_plugin.benchmarks", "--emt-model", "llava-mini")
    # No accepted losses come with the package: two small sets do not settle the gap.
    assert done.returncode == 7, done.stdout + done.stderr
    assert "INCONCLUSIVE: 2 of 4 pairs are not settled by these images" in done.stdout
    assert len(list(tmp_path.glob("reports/*/report.html"))) == 1


def test_it_serves_a_foreign_suite(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_release.py").write_text(RELEASE)
    done = python_in(tmp_path, site, *PYTEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_wheel_carries_what_it_says(site: Path) -> None:
    (wheel,) = site.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "benchmarks/tolerances.toml",
        "catalog/models.toml",
        "report/templates/report.html",
        "py.typed",
        "fixtures/mini/models/llava-mini/model.safetensors",
        "fixtures/mini/image_sets/emoji-mini/test.parquet",
    ):
        assert f"emt_plugin/{wanted}" in names
    assert not [name for name in names if name.startswith(("tests/", "fixtures/", "benchmarks/"))]
