"""docs/api.md is what the docstrings say, and they say it of every public name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import emt_plugin as emt
from emt_plugin.api.plots import Plots
from emt_plugin.report.writers.marks import marks
from tests.api_doc import COMMAND, PAGE, markdown, members, names, tables

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "written"), [("names", names), ("tables", tables)])
def test_the_page_is_what_the_docstrings_say(name: str, written: object) -> None:
    begin, end = marks(name, COMMAND)
    said = TEXT.partition(begin)[2].partition(end)[0]
    assert callable(written)
    assert said == f"\n{written()}\n", f"run {COMMAND}"


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in emt.__all__:
        assert f"### `emt.{name}" in TEXT
    for found, prefix in ((emt.Run, "Run"), (Plots, "Run.plot")):
        for name in members(found):
            member = inspect.getattr_static(found, name)
            assert inspect.getdoc(member), name
            assert f"### `{prefix}.{name}" in TEXT


def test_every_argument_is_described_and_typed() -> None:
    for function in (emt.load_run, emt.evaluate, *(getattr(Plots, name) for name in members(Plots))):
        said = inspect.getdoc(function) or ""
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self":
                assert re.search(rf"^    {parameter.name}: \S", said, re.MULTILINE), parameter.name
                assert parameter.annotation is not parameter.empty
        assert "Raises:" in said
    assert (Path(emt.__file__).parent / "py.typed").is_file()


def test_a_docstring_becomes_markdown() -> None:
    args = "Args:\n    one: the first,\n        on two lines.\n    two: the second."
    said = "*Args*\n\n- `one`: the first,\n  on two lines.\n- `two`: the second."
    assert markdown(f"What ``x`` is.\n\n{args}\n\nReturns:\n    A thing.\n\nMore.") == (
        f"What `x` is.\n\n{said}\n\n*Returns*\n\nA thing.\n\nMore."
    )
