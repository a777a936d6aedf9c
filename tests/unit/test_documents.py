"""README, CONTRIBUTING and docs: what they promise of length, names and tables."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from emt_plugin.cli.commands import _parser
from emt_plugin.report.writers.marks import marks

REPOSITORY = Path(__file__).parents[2]


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(text("README.md").split()) <= 900


def test_every_command_has_a_line() -> None:
    (commands,) = (made for made in _parser()._actions if isinstance(made, argparse._SubParsersAction))
    assert commands.choices.keys() <= set(re.findall(r"`emt ([a-z-]+)", text("docs/commands.md")))


def test_every_exit_code_has_a_meaning_in_all_three_tables() -> None:
    for name in ("README.md", "docs/exit-codes.md", "docs/ci.md"):
        found = re.findall(r"^\| ([\d, ]+) \|", text(name), re.MULTILINE)
        assert sorted(int(code) for row in found for code in row.split(",")) == [0, 1, 2, 3, 4, 5, 7], name


def test_every_room_is_described() -> None:
    (contract,) = (found for found in _contracts() if found["type"] == "layers")
    rooms = {room.strip() for layer in contract["layers"] for room in layer.split("|")}
    table = text("CONTRIBUTING.md").split("## The rooms")[1].split("\n## ")[0]
    assert rooms <= set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))


def _contracts() -> list[dict[str, object]]:
    return tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize(
    ("document", "name", "command"),
    [
        ("docs/throughput.md", "throughput", "emt throughput"),
        ("docs/study.md", "study", "emt study"),
        ("docs/study.md", "study in full", "emt study"),
    ],
)
def test_what_make_writes_has_its_place(document: str, name: str, command: str) -> None:
    begin, end = marks(name, command)
    assert "\n|" in text(document).split(begin)[1].split(end)[0]
    assert f"{command.split()[1]} " in text("Makefile")
    assert f"--write {document}" in text("Makefile")
