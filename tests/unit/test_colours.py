"""Colour in a terminal: where, when, and never in the way of the text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.cli import main
from emt_plugin.report.writers.colours import GREEN, RED, RESET, YELLOW, painted
from emt_plugin.report.writers.terminal import table
from tests.unit.test_history import outcomes
from tests.unit.test_records import make_pair
from tests.unit.test_report import judged
from tests.unit.test_run_commands import two_runs

CODE = re.compile(r"\x1b\[[0-9;]*m")


def test_verdicts_have_their_colours() -> None:
    run = judged(make_pair(60, 30, "one"), make_pair(90, 0, "two"), make_pair(80, 6, "three"))
    lines = [painted(line) for line in table(run)]
    assert lines[0].startswith(f"{RED}FAIL{RESET}: 1 of 3 pairs")
    rows = {line.split("  ")[0].removeprefix("model/"): line for line in lines}
    assert rows["one"].endswith(f"{RED}FAIL{RESET}")
    assert rows["two"].endswith(f"{GREEN}PASS{RESET}")
    assert rows["three"].endswith(f"{YELLOW}INCONCLUSIVE{RESET}")
    assert [CODE.sub("", line) for line in lines] == table(run)


@pytest.mark.parametrize(
    "line",
    [
        "model/FAIL: about 900 images would settle it",
        "FAILURES are none",
        "a sentence that says PASS or FAIL",
        "report: reports/FAIL/report.html",
    ],
)
def test_a_name_that_is_a_verdicts_has_no_colour(line: str) -> None:
    assert painted(line) == line


@given(st.lists(st.sampled_from(["PASS", "FAIL", " ", "  ", "(", "✗", "% ", ":", "a", "pair", "worse"])).map("".join))
def test_colour_adds_nothing_but_codes_and_ends_what_it_begins(line: str) -> None:
    shown = painted(line)
    assert CODE.sub("", shown) == line
    codes = CODE.findall(shown)
    assert codes[1::2] == [RESET] * (len(codes) // 2)
    assert len(codes) % 2 == 0


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": ""}, False),
    ],
)
def test_a_command_whose_output_nobody_looks_at_has_no_colour(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    coloured: bool,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    main(["compare", *two_runs(tmp_path, outcomes(90, 10), outcomes(60, 40))])
    out = capsys.readouterr().out
    assert bool(CODE.search(out)) == coloured
    assert "FAIL" in out
