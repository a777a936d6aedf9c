"""The lowest versions that are tested are those that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Allowed lower than it was tried: see constraints-lowest.txt.
NOT_TRIED = {"torch"}


def key(version: str) -> tuple[int, ...]:
    """A version as numbers, without zeros at its end."""
    numbers = [int(part) for part in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def allowed() -> dict[str, str]:
    """The lower bound of every package that the tool, its workers and `emt finetune` need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return dict(
        re.match(r"([\w.-]+)>=([\d.]+)", wanted).groups()
        for wanted in [*project["dependencies"], *extras["workers"], *extras["finetune"]]
    )


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in found.items()}


def test_the_lowest_versions_are_the_lower_bounds() -> None:
    lowest, bounds = pinned("constraints-lowest.txt"), allowed()
    assert lowest.keys() == bounds.keys()
    assert {name: key(lowest[name]) for name in lowest.keys() - NOT_TRIED} == {
        name: key(bounds[name]) for name in bounds.keys() - NOT_TRIED
    }
    assert all(key(bounds[name]) <= key(lowest[name]) for name in NOT_TRIED)


def test_what_is_tested_is_not_lower_than_the_lowest() -> None:
    highest = pinned("constraints.txt")
    assert all(key(version) <= key(highest[name]) for name, version in pinned("constraints-lowest.txt").items())
