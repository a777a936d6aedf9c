"""JUnit's XML of a run: one case for each test, the same outcomes without workers, with two, and after a crash."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from emt_plugin.catalog import bundled_folder
from tests.plugin.conftest import GATE, Run, in_a_process

TOLERANCES = """\
[pair."llava-mini/mnist-mini"]
tolerance = 0.3

[pair."llava-mini/emoji-mini"]
tolerance = 0.05
"""

CHECKS = r"""
import json, pathlib
import pytest

def test_holds(emt):
    emt.check("llava-mini", "mnist-mini", 0.3)

def test_forgot(emt):
    emt.check("llava-mini-forgot", "emoji-mini", 0.05)

def test_missing(emt):
    emt.check("./empty", "mnist-mini")

def test_mistyped(emt):
    emt.check("llvaa", "mnist-mini")

def test_strange_name(emt):
    emt.check("./em\x1b[31mpty", "mnist-mini")

def test_strange_answers(emt):
    with pytest.raises(AssertionError):
        emt.check("./strange", "emoji-mini", 0.001)
    lines = [line for path in pathlib.Path("reports").glob("*/journal/*.jsonl") for line in path.read_text().splitlines()]
    ours = [json.loads(line) for line in lines if line.startswith('{"pair": "strange/')]
    answers = sorted({row["answer"] for line in ours for row in line.get("rows", ())})
    print(answers[0])
    assert answers[0] == "an answer without control characters"
"""

KILLER = """\
import os, signal, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    if call.when == os.environ.get("KILL_AT") and "llava-mini/emoji-mini" in item.nodeid:
        os.kill(os.getpid(), signal.SIGKILL)
"""

ARGUMENTS = (
    "--emt-model", "llava-mini", "--emt-model", "llava-mini-forgot", "--emt-model", "./empty",
    "--emt-image-set", "mnist-mini", "--emt-image-set", "emoji-mini", "--emt-limit", "150",
    "--emt-tolerances", "mine.toml", "--junitxml=junit.xml", "-o", "junit_logging=all", "-p", "no:hypothesispytest",
)  # fmt: skip


@dataclass(frozen=True)
class Junit:
    """What a run's XML says: counts, and of each case its outcomes with their messages."""

    text: str
    counts: dict[str, int]
    cases: dict[str, tuple[tuple[str, str], ...]]

    @classmethod
    def of(cls, path: Path) -> Junit:
        """Read a file, and see that its counts are those of its cases."""
        (suite,) = ElementTree.parse(path).getroot()
        counts = {name: int(suite.attrib[name]) for name in ("tests", "errors", "failures", "skipped")}
        found = list(suite.iter("testcase"))
        cases = {
            case.attrib["name"]: tuple(
                (outcome.tag, outcome.attrib["message"])
                for outcome in case
                if outcome.tag not in ("system-out", "system-err")  # what was printed
            )
            for case in found
        }
        assert counts["tests"] == len(found) == len(cases)
        tags = Counter(tag for outcomes in cases.values() for tag, _ in outcomes)
        assert (tags["error"], tags["failure"], tags["skipped"]) == (counts["errors"], counts["failures"], counts["skipped"])
        return cls(path.read_text(encoding="utf-8"), counts, cases)


Start = Callable[..., tuple[Run, Junit]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Run the same tests in the same folder: what was computed once is replayed."""
    folder = tmp_path_factory.mktemp("junit")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_forgetting.py").write_text(GATE)
    (folder / "test_checks.py").write_text(CHECKS)
    (folder / "conftest.py").write_text(KILLER)
    (folder / "mine.toml").write_text(TOLERANCES)
    (folder / "empty").mkdir()
    (folder / "em\x1b[31mpty").mkdir()
    answers_with_escapes(folder / "strange")

    def run(*arguments: str, **variables: str) -> tuple[Run, Junit]:
        (folder / "junit.xml").unlink(missing_ok=True)
        return in_a_process(folder, (*ARGUMENTS, *arguments), variables), Junit.of(folder / "junit.xml")

    return run


def answers_with_escapes(folder: Path) -> None:
    """A model of the bundled one's weights that ends its answers with ESC where the other has a full stop."""
    folder.mkdir()
    for file in (bundled_folder() / "models" / "llava-mini").iterdir():
        (folder / file.name).symlink_to(file)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    escape = chr(0x100 + 0x1B)  # as byte-level vocabularies write the byte
    vocabulary["."], vocabulary[escape] = vocabulary[escape], vocabulary["."]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def serial(start: Start) -> tuple[Run, Junit]:
    return start()


@pytest.fixture(scope="module")
def parallel(start: Start, serial: tuple[Run, Junit]) -> tuple[Run, Junit]:
    return start("-n2")


def pair(name: str) -> str:
    return f"test_forgetting[{name}]"


def test_each_verdict_has_its_place(serial: tuple[Run, Junit]) -> None:
    run, junit = serial
    assert run.code == 3, run.output
    begins = {
        pair("llava-mini/mnist-mini"): None,
        pair("llava-mini/emoji-mini"): ("failure", "INCONCLUSIVE llava-mini/emoji-mini: "),
        pair("llava-mini-forgot/mnist-mini"): ("failure", "FAIL llava-mini-forgot/mnist-mini: "),
        pair("llava-mini-forgot/emoji-mini"): ("failure", "FAIL llava-mini-forgot/emoji-mini: "),
        pair("empty/mnist-mini"): ("error", 'failed on setup with "could not run: empty is no checkpoint'),
        pair("empty/emoji-mini"): ("error", 'failed on setup with "could not run: empty is no checkpoint'),
        "test_holds": None,
        "test_forgot": ("failure", "FAIL llava-mini-forgot/emoji-mini: "),
        "test_missing": ("error", 'failed on setup with "could not run: empty is no checkpoint'),
        "test_mistyped": ("error", "failed on setup with \"emt: unknown model 'llvaa'"),
        "test_strange_name": ("error", 'failed on setup with "could not run: em'),
        "test_strange_answers": ("failure", "AssertionError: assert "),
    }
    assert set(junit.cases) == set(begins)
    for name, expected in begins.items():
        if expected is None:
            assert junit.cases[name] == (), name
        else:
            ((tag, message),) = junit.cases[name]
            assert (tag, message[: len(expected[1])]) == expected
    assert junit.counts == {"tests": 12, "errors": 5, "failures": 5, "skipped": 0}


def test_the_terminal_counts_alike(serial: tuple[Run, Junit], parallel: tuple[Run, Junit]) -> None:
    for run, _ in (serial, parallel):
        assert "= 5 failed, 2 passed, 5 errors in" in run.output


def test_workers_change_nothing(serial: tuple[Run, Junit], parallel: tuple[Run, Junit]) -> None:
    assert parallel[0].code == serial[0].code
    assert parallel[1].counts == serial[1].counts
    assert parallel[1].cases == serial[1].cases


def test_records_stay_out_of_it(serial: tuple[Run, Junit], parallel: tuple[Run, Junit]) -> None:
    for _, junit in (serial, parallel):
        assert not [word for word in ("emt_pairs", "emt_ended", "image_set_facts", "<propert") if word in junit.text]


def test_control_characters_break_nothing(serial: tuple[Run, Junit], parallel: tuple[Run, Junit]) -> None:
    for _, junit in (serial, parallel):
        assert not [sign for sign in junit.text if ord(sign) < 32 and sign not in "\t\n\r"]
        ((_, says),) = junit.cases["test_strange_answers"]
        assert "#x1B" in junit.text.partition("Captured Out")[2]
        assert "\\x1b" in says
        ((_, says),) = junit.cases["test_strange_name"]
        assert "em [31mpty has no config.json" in says


@pytest.mark.parametrize("phase", ["setup", "call"])
def test_a_crash_is_an_error_of_its_own_case_alone(start: Start, serial: tuple[Run, Junit], phase: str) -> None:
    run, junit = start("-n2", KILL_AT=phase)
    assert run.code == 3, run.output
    killed = pair("llava-mini/emoji-mini")
    ((tag, message),) = junit.cases[killed]
    assert tag == "error"
    assert "crashed while running" in message
    assert {name: case for name, case in junit.cases.items() if name != killed} == {
        name: case for name, case in serial[1].cases.items() if name != killed
    }
    assert junit.counts == {"tests": 12, "errors": 6, "failures": 4, "skipped": 0}
