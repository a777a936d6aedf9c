"""Every command of README.md and the tutorials: known in `make test`, and those of README.md carried out, in their order.

Carried out on fewer images, and in a checkout where the bundled models and runs stand for those that a reader has. Three kinds
are not: what needs a model of the hub is collected; `make` would install and run everything again, which is what CI does with
the same words, so make is asked whether it knows how; pip is asked what it would install. `--pyargs emt_plugin.benchmarks`
is `benchmarks` here, and itself in the tests of the wheel.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from emt_plugin.cli.commands import _parser
from tests.plugin.conftest import environment

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ("README.md", *(f"docs/tutorials/{name}.md" for name in ("release", "finetuning", "ci")))
# What a reader has, and what stands for it.
STANDS_FOR = {"runs/my-llava": "models/llava-mini-forgot", "runs/base": "models/llava-mini"}
CHECKOUT = ("benchmarks", "fixtures", "conftest.py", "pyproject.toml")
FEW = "--emt-limit 40 --emt-image-set mnist-mini --emt-tolerance 0.5 -p no:cacheprovider"
# What makes a command of README.md short enough, by how it begins; and the exit codes that are right.
SHORT = {
    "emt finetune": ("--limit 1 --epochs 1", {0}),
    "emt mend": ("--limit 40 --image-set mnist-mini --tolerance 0.5 --alphas 0.1", {0, 1, 7}),
}


@dataclass(frozen=True)
class Command:
    """A command of a document, with the comment behind it left out."""

    document: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def of_the_hub(self) -> bool:
        return ("--model", "llava") in zip(self.words, self.words[1:], strict=False)


def commands(document: str) -> list[Command]:
    """The lines of blocks without a language, which are for a shell."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```([a-z]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for language, block in blocks if not language for line in block.splitlines() if line]
    return [Command(document, tuple(shlex.split(line, comments=True))) for line in lines]


EVERY = [command for document in DOCUMENTS for command in commands(document)]


@dataclass(frozen=True)
class Checkout:
    """A checkout of somebody who has models of their own."""

    folder: Path

    def run(self, *words: str, more: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """A command, by the Python of these tests and with this code, whatever is installed."""
        modules = {"pytest": "pytest", "emt": "emt_plugin.cli", "pip": "pip"}
        program = [sys.executable, "-m", modules[words[0]]] if words[0] in modules else [words[0]]
        arguments = [word for word in words[1:] if word != "--pyargs"]
        known = {**environment(), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            [*program, *("benchmarks" if word == "emt_plugin.benchmarks" else word for word in arguments), *shlex.split(more)],
            cwd=self.folder, env=known, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in CHECKOUT:
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "runs").mkdir()
    for name, bundled in STANDS_FOR.items():
        (tmp_path / name).symlink_to(REPOSITORY / "fixtures" / "mini" / bundled)
    return Checkout(tmp_path)


def test_the_two_commands_of_a_fresh_clone_are_in_the_readme() -> None:
    assert {("make", "bench"), ("make", "test")} <= {command.words for command in commands("README.md")}
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert {"make bench", "make test"} <= set(script)


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.text)
def test_a_command_is_known(command: Command, checkout: Checkout) -> None:
    (checkout.folder / "runs" / "lora-emoji").symlink_to(REPOSITORY / "fixtures" / "mini" / "adapters" / "lora-emoji")
    match command.words[0]:
        case "pytest":
            done = checkout.run(*command.words, more="--collect-only -q -p no:cacheprovider")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "test_forgetting[" in done.stdout or "test_trajectory" in done.stdout
        case "emt":
            assert _parser().parse_args(command.words[1:]).command
        case "make":
            done = subprocess.run(
                ["make", "-n", *command.words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        case "pip":
            assert command.words[:2] == ("pip", "install")
        case other:
            assert other == ".", f"how is {other} tried?"


def test_the_extras_that_the_readme_installs_exist(tmp_path: Path) -> None:
    (command,) = (command for command in commands("README.md") if command.words[0] == "pip")
    asked = [*command.words[1:], "--dry-run", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([sys.executable, "-m", "pip", *asked], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Would install pytest-emt" in done.stdout
    assert "does not provide the extra" not in done.stderr


@pytest.mark.thorough
def test_the_readme_is_carried_out(checkout: Checkout) -> None:
    store = {"PYTEST_ADDOPTS": f"{FEW} --emt-store-dir={shlex.quote(str(checkout.folder / 'store'))}"}
    ran = []
    for command in commands("README.md"):
        begins = " ".join(command.words[:2])
        if command.words[0] == "pytest" and not command.of_the_hub:
            done, right = checkout.run(*command.words, **store), {0}
        elif command.words[0] == "emt":
            more, right = SHORT[begins]
            done = checkout.run(*command.words, more=more)
        else:
            continue
        assert done.returncode in right, f"{command.text}\n{done.stdout}{done.stderr}"
        ran.append(begins)
    assert ran == ["pytest benchmarks", "pytest benchmarks", "emt finetune", "pytest benchmarks", "emt mend", "pytest --pyargs"]
    assert (checkout.folder / "history.jsonl").exists()
    assert len(list(checkout.folder.glob("reports/*/report.html"))) >= 4
