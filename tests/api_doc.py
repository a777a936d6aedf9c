"""The reference in docs/api.md, from the docstrings: ``python -m tests.api_doc`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emt_plugin
from emt_plugin.api.plots import Plots
from emt_plugin.api.run import Run
from emt_plugin.report.writers.marks import put_between
from emt_plugin.runs.tables import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
COMMAND = "make api-doc"
SECTION = re.compile(r"^(Args|Returns|Raises|Attributes):$")
ENTRY = re.compile(r"^    (\w+): (.+)$")


def names() -> str:
    """The public names with their signatures and docstrings, as Markdown."""
    functions = [_function(f"emt.{name}", getattr(emt_plugin, name)) for name in ("load_run", "evaluate")]
    errors = [_function(f"emt.{name}", getattr(emt_plugin, name), call=False) for name in ERRORS]
    run = [_function("emt.Run", Run, call=False), *(_member(f"Run.{name}", vars(Run)[name]) for name in members(Run))]
    plots = [_function(f"Run.plot.{name}", getattr(Plots, name)) for name in members(Plots)]
    return "\n\n".join([*functions, *run, *plots, *errors])


ERRORS = ("UsageError", "RecordError", "CouldNotRun")


def tables() -> str:
    """The tables with their columns, as Markdown."""
    said = []
    for name, columns in TABLES.items():
        rows = [f"| `{column.name}` | {column.kind} | {column.about} |" for column in columns]
        said.append("\n".join([f"### `Run.{name}`", "", "| column | kind | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(said)


def members(found: type) -> list[str]:
    """The public members of a class, in the order in which they are written."""
    return [name for name in vars(found) if not name.startswith("_")]


def _member(name: str, found: Any) -> str:
    """One of a run's members: all are attributes."""
    return _function(name, found.fget if isinstance(found, property) else found.func, call=False)


def _function(name: str, found: Callable[..., Any], call: bool = True) -> str:
    return f"### `{name}{'()' if call else ''}`\n\n{_signature(found) if call else ''}{markdown(inspect.getdoc(found) or '')}"


def _signature(found: Callable[..., Any]) -> str:
    given = inspect.signature(found)
    lines: list[str] = []
    for one in given.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        default = str(one.default) if isinstance(one.default, Path) else one.default
        lines.append(f"    {one.name}: {_type(one.annotation)}{'' if default is one.empty else f' = {default!r}'},")
    return "\n".join(["```python", f"{found.__name__}(", *lines, f") -> {_type(given.return_annotation)}", "```", "", ""])


def _type(annotation: str) -> str:
    return re.sub(r"\bName\b", "str | Path", annotation)


def markdown(text: str) -> str:
    """A docstring as Markdown: its sections as lists, code in single backticks."""
    lines: list[str] = []
    listed = False
    for line in text.replace("``", "`").splitlines():
        section, entry = SECTION.match(line), ENTRY.match(line)
        listed = bool(section) or (listed and (not line or line.startswith("    ")))
        if section:
            lines += [f"*{section[1]}*", ""]
        elif listed and entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif listed and line:
            lines.append(f"  {line.strip()}" if lines[-1].startswith(("- ", "  ")) else line.strip())
        else:
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Put both between their marks in docs/api.md."""
    put_between(PAGE, "names", COMMAND, names())
    put_between(PAGE, "tables", COMMAND, tables())


if __name__ == "__main__":
    main()
