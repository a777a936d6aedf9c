"""Guest manners: a suite that does not ask for the gate is the same with the plugin and without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from emt_plugin.catalog import bundled_folder
from tests.plugin.conftest import Run, environment, in_a_process

FOREIGN = """\
import os, signal, pytest

def test_passes():
    pass

def test_fails():
    assert 1 == 2

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.parametrize("n", range(3))
def test_numbers(n):
    assert "OMP_NUM_THREADS" not in os.environ

def test_may_crash():
    if os.environ.get("CRASH") and "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def outcome(run: Run) -> tuple[int, list[str]]:
    """Exit code and the lines that say what failed and how much passed, less seconds and workers' names."""
    text = re.sub(r"in \d+\.\d+s.*|gw\d+", "", run.output)
    said = ("FAILED", "ERROR", "E ", "worker ", "test_foreign.py::")
    return run.code, sorted(
        line for line in text.splitlines() if line.startswith(said) or re.search(r"\d (passed|failed)", line)
    )


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(("-p", "no:xdist"), {}), (("-n2",), {}), (("-n2",), {"CRASH": "1"}), (("-x",), {}), (("--collect-only", "-q"), {})],
    ids=["no-xdist", "n2", "n2-crash", "x", "collect"],
)
def test_a_foreign_suite_is_the_same_with_and_without_us(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    (tmp_path / "test_foreign.py").write_text(FOREIGN)
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest")
    without = in_a_process(tmp_path, ("-p", "no:emt_plugin.plugin", *quiet, *arguments), variables)
    with_us = in_a_process(tmp_path, (*quiet, *arguments), variables)
    assert outcome(with_us) == outcome(without)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_foreign.py"]


def test_the_entry_module_needs_nothing_but_pytest() -> None:
    code = (
        "import sys, pytest, emt_plugin.plugin; heavy = ('torch', 'transformers', 'datasets', 'numpy', 'jinja2', 'xdist', "
        "'pytest_benchmark', 'pyarrow', 'scipy', 'PIL', 'huggingface_hub', 'tomlkit', 'filelock'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def test_collecting_the_gate_imports_nothing_heavy(tmp_path: Path, suite: Path) -> None:
    code = (
        "import sys, pytest; code = pytest.main(['--co', '-q', '--emt-model', 'llava-mini', '-p', 'no:hypothesispytest']); "
        "heavy = ('numpy', 'scipy', 'jinja2', 'pyarrow', 'datasets', 'torch', 'transformers'); "
        "print(int(code), [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=suite, env=environment()
    )
    assert done.stdout.splitlines()[-1] == "0 []"


FIXTURE_SUITE = """\
import pytest

def test_holds(emt):
    pair = emt.check(model="llava-mini", image_set="mnist-mini", tolerance=0.05)
    assert pair.n == 500

def test_forgot(emt):
    emt.check(model="llava-mini-forgot", image_set="emoji-mini", tolerance=0.05)

def test_typo(emt):
    with pytest.raises(ValueError, match="did you mean 'llava'"):
        emt.check(model="llvaa", image_set="mnist-mini")

def test_tolerance(emt):
    with pytest.raises(ValueError, match="write 0.05"):
        emt.check(model="llava-mini", image_set="mnist-mini", tolerance=5)
"""


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest")
LEFT = [".emt_store", "reports", "test_release.py"]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_the_readmes_example_in_an_empty_repository(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (example,) = re.findall(r"```python\n(def test_release.*?)```", README, re.DOTALL)
    (tmp_path / "test_release.py").write_text(example)
    done = in_a_process(tmp_path, (*QUIET, *workers))
    assert done.code == 7, done.output
    assert done.record["exit_code"] == 7
    assert (done.place / "report.html").exists()
    assert (done.place / "predictions" / "llava-mini__fashion-mini.jsonl").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT


@pytest.mark.thorough
def test_using_the_fixture_is_asking_for_all_of_the_gate(tmp_path: Path) -> None:
    (tmp_path / "test_release.py").write_text(FIXTURE_SUITE.replace("500", "1000"))
    done = in_a_process(tmp_path, QUIET)
    assert done.code == 1, done.output
    assert "1 failed, 3 passed" in done.output
    assert "FAIL llava-mini-forgot/emoji-mini: " in done.output
    assert "Traceback" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT
    assert done.record["settings"]["models"] == ["llava-mini", "llava-mini-forgot"]


CRASHES = """\
import os, signal

def test_holds(emt):
    emt.check("llava-mini", "digits-mini", 0.3)

def test_dies(emt):
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    emt.check("llava-minnni", "digits-mini")
"""


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_a_check_that_never_came_to_an_end_is_incomplete(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_release.py").write_text(CRASHES)
    done = in_a_process(tmp_path, (*QUIET, *workers))
    assert done.code == 3, done.output
    assert not done.record["complete"]


def test_a_check_that_is_mistyped_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_release.py").write_text('def test_release(emt):\n    emt.check("llava-minnni", "mnist-mini")\n')
    done = in_a_process(tmp_path, QUIET)
    assert done.code == 3, done.output
    assert "did you mean 'llava-mini'" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_release.py"]


@pytest.mark.thorough
def test_with_an_option_the_fixtures_pairs_are_recorded_too(tmp_path: Path) -> None:
    (tmp_path / "test_release.py").write_text(FIXTURE_SUITE)
    done = in_a_process(tmp_path, ("--emt-limit", "500", "-p", "no:hypothesispytest"))
    assert done.code == 1, done.output
    verdicts = {f"{pair['model']}/{pair['image_set']}": pair["comparisons"][0]["verdict"] for pair in done.record["pairs"]}
    assert verdicts == {"llava-mini/mnist-mini": "PASS", "llava-mini-forgot/emoji-mini": "FAIL"}
    assert done.pair("llava-mini/mnist-mini")["comparisons"][0]["tolerance_from"] == "emt.check(tolerance=...)"


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_the_benchmarks_are_found_by_their_package_in_a_checkout_too(suite: Path, workers: tuple[str, ...]) -> None:
    (suite / "test_forgetting.py").unlink()
    arguments = ("--pyargs", "emt_plugin.benchmarks", "--emt-image-set", "digits-mini", "--emt-limit", "60", *workers)
    done = in_a_process(suite, (*arguments, "-p", "no:hypothesispytest"))
    assert done.code in (0, 7), done.output
    assert done.pair("llava-mini/digits-mini")["n"] == 60


def test_a_bare_folder_is_told_what_it_is_asked_and_once_why_it_cannot_be(suite: Path, tmp_path: Path) -> None:
    (suite / "mine").symlink_to(bundled_folder() / "models" / "llava-mini")
    offline = {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_CACHE": "", "HF_DATASETS_CACHE": ""}
    done = in_a_process(suite, ("--emt-model", "./mine", "-p", "no:cacheprovider", "-p", "no:benchmark"), offline)
    assert done.code == 4, done.output
    assert done.output.count("not in the catalog, so the paper's image sets are asked: mnist, cifar10, cifar100, miniim") == 1
    assert done.output.count("is on this machine, and the hub cannot be reached") == 1
    suggested = re.search(r"with: pytest benchmarks (.*?);", done.output)
    assert suggested is not None
    assert sorted(path.name for path in suite.iterdir()) == ["mine", "pytest.ini", "test_forgetting.py"]
    again = in_a_process(suite, (*suggested[1].split(), "--emt-limit", "20", "-p", "no:hypothesispytest"))
    assert {pair["status"] for pair in again.record["pairs"]} == {"measured"}, again.output


def test_a_reason_that_pairs_share_is_said_once(suite: Path) -> None:
    sets = ("--emt-image-set", "mnist-mini", "--emt-image-set", "digits-mini")
    done = in_a_process(suite, ("--emt-model", "llava", *sets, "--junitxml=junit.xml", "-p", "no:hypothesispytest"))
    assert done.code == 3, done.output
    assert done.output.count("is not on this machine and the hub cannot be reached") == 1
    assert (suite / "junit.xml").read_text().count("is not on this machine and the hub cannot be reached") >= 2


@pytest.mark.thorough
def test_ini_alone_turns_the_gate_on(suite: Path) -> None:
    (suite / "pytest.ini").write_text(
        "[pytest]\nemt = true\nemt_model = llava-mini\nemt_image_set = mnist-mini\nemt_limit = 400\n"
    )
    done = in_a_process(suite, ("-p", "no:hypothesispytest"))
    assert done.code == 0, done.output
    assert [pair["n"] for pair in done.record["pairs"]] == [400]
