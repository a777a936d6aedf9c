"""A backend that somebody else brings: found by entry point, asked like any other, and kept by what it says it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.plugin.conftest import Run, in_a_process, install

DOCUMENTED = Path(__file__).parents[2] / "docs" / "backends.md"
THEIRS = DOCUMENTED.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
CATALOG = '[models.polly]\nsource = "{folder}"\nbackend = "{backend}"\nencoder = "clip-mini"\nimage_sets = ["mnist-mini"]\n'
N = 60


@pytest.fixture
def polly(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a parrot, a catalog that names it, and beside it the package that runs it."""
    folder = tmp_path_factory.mktemp("site")
    points = {"parrot": "their_backends:Parrot", "broken": "no_such_module:Backend"}
    install(folder, "their_backends", THEIRS, "pytest_emt.backends", points)
    (folder / "word").write_text("7")
    (suite / "emt.toml").write_text(CATALOG.format(folder=folder, backend="parrot"))
    return folder


def gate(suite: Path, polly: Path, *more: str) -> Run:
    path = os.pathsep.join(filter(None, (str(polly), os.environ.get("PYTHONPATH"))))
    common = ("--emt-catalog", "emt.toml", "--emt-model", "polly", "--emt-limit", str(N), "-p", "no:hypothesispytest")
    return in_a_process(suite, (*common, *more), {"PYTHONPATH": path})


def seen(polly: Path) -> int:
    return len((polly / "seen").read_text().splitlines())


@pytest.mark.thorough
@pytest.mark.own_store
def test_a_third_party_adds_a_backend_by_entry_point(suite: Path, polly: Path) -> None:
    done = gate(suite, polly)
    assert done.code == 1, done.output
    pair = done.pair("polly/mnist-mini")
    lines = (done.place / "predictions" / "polly__mnist-mini.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    sevens = sum(pair["labels"][row["label"]] == "7" for row in rows)
    assert {row["answer"] for row in rows} == {"7"}
    assert pair["scores"][0]["correct"] == sevens > 0
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "encoder", "id": "clip-mini"}
    assert "taken on trust" in pair["encoder"]["tower"]
    facts = pair["model_facts"]
    assert (facts["architecture"], facts["fingerprint"], facts["generation"], facts["feathers"], facts["device"]) == (
        "Parrot", "7", {"loud": True}, 7, "elsewhere",
    )  # fmt: skip
    assert facts["rendered_prompt"].startswith("Polly, What is the number")
    assert seen(polly) == N
    again = gate(suite, polly)
    assert again.pair("polly/mnist-mini")["replay"]["replayed"] == N
    assert seen(polly) == N
    (polly / "word").write_text("4")
    other = gate(suite, polly)
    assert other.pair("polly/mnist-mini")["scores"][0]["correct"] == sum(pair["labels"][row["label"]] == "4" for row in rows)
    assert seen(polly) == 2 * N


@pytest.mark.thorough
def test_what_it_does_not_show_is_refused_before_the_first_image(suite: Path, polly: Path) -> None:
    done = gate(suite, polly, "--emt-scorer", "answer,likelihood")
    assert done.code == 3, done.output
    assert "the scorer 'likelihood' wants the probabilities of labels, which a Parrot does not show" in done.output
    assert not (polly / "seen").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken", "the backend 'broken' (no_such_module:Backend) cannot be imported"),
        ("parot", "unknown backend 'parot'; known: transformers, endpoint, parrot, broken"),
    ],
)
def test_one_that_is_not_there_is_a_usage_error(suite: Path, polly: Path, name: str, sentence: str) -> None:
    (suite / "emt.toml").write_text(CATALOG.format(folder=polly, backend=name))
    done = gate(suite, polly)
    assert done.code == 4
    assert sentence in done.output
    assert not (suite / "reports").exists()
