"""The tables of a run as text: CSV for spreadsheets, and LaTeX with booktabs for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from emt_plugin.errors import one_line
from emt_plugin.report.words.verdicts import percent, points
from emt_plugin.runs.tables import Column, Table, Value

# What spreadsheets take a cell for a formula by, in half and in full width.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # These would be an argument of the line break before them.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
Row = Mapping[str, Any]
Cell = Callable[[Row], str]


def csv_text(table: Table) -> str:
    """A table as CSV, fractions in full, what is missing empty.

    Text that a spreadsheet would run as a formula has an apostrophe before it: answers and names are a stranger's.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([_guarded(column, value) for column, value in zip(table.columns, row, strict=True)])
    return file.getvalue()


def _guarded(column: Column, value: Value) -> Value:
    harmful = column.kind in ("text", "time") and isinstance(value, str) and value.startswith(FORMULA)
    return f"'{value}" if harmful else value


def latex_text(table: Table) -> str | None:
    """A table as LaTeX with booktabs, in percent and points as a paper has them; None for images, which no paper prints."""
    columns = PAPER.get(table.name)
    if columns is None:
        return None
    rows = [dict(zip((column.name for column in table.columns), row, strict=True)) for row in table.rows]
    sides = "".join(side for _, side, _ in columns)
    lines = [" & ".join(_tex(cell(row)) for _, _, cell in columns) + r" \\" for row in rows]
    head = " & ".join(title for title, _, _ in columns) + r" \\"
    return "\n".join(
        ["% \\usepackage{booktabs}", rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule",
         r"\end{tabular}", ""]
    )  # fmt: skip


def _tex(text: str) -> str:
    escaped = "".join(TEX.get(sign, sign) for sign in one_line(text))
    # Two hyphens are a dash, and what stands for a minus is one.
    return re.sub("-(?=-)", "-{}", escaped).replace("−", "$-$").replace("–", "--")


def _text(name: str, missing: str = "–") -> Cell:
    return lambda row: missing if row[name] is None else str(row[name])


def _percent(name: str) -> Cell:
    return lambda row: "–" if row[name] is None else percent(row[name]).removesuffix("%")


def _points(name: str) -> Cell:
    return lambda row: "–" if row[name] is None else points(row[name])


def _interval(low: str, high: str, said: Callable[[float], str]) -> Cell:
    return lambda row: "–" if row[low] is None else f"{said(row[low])} to {said(row[high])}"


def _verdict(row: Row) -> str:
    said = row["verdict"] or str(row["status"]).replace("-", " ").upper()
    return (
        f"{said} (accepted)" if row.get("by_accepted_loss") else f"{said} (may be chance)" if row.get("may_be_chance") else said
    )


GAP = (r"gap (points)", "r", _points("gap")), (r"90\,\% interval", "c", _interval("low", "high", points))
CHANGE = (r"change (points)", "r", _points("change")), (r"90\,\% interval", "c", _interval("low", "high", points))
PAPER: Mapping[str, tuple[tuple[str, str, Cell], ...]] = {
    "pairs": (
        ("pair", "l", _text("pair")),
        ("$n$", "r", _text("n")),
        (r"model (\%)", "r", _percent("accuracy")),
        (r"reference (\%)", "r", _percent("reference_accuracy")),
        *GAP,
        ("tolerance (points)", "r", _percent("tolerance")),
        ("verdict", "l", _verdict),
    ),
    "classes": (
        ("pair", "l", _text("pair")),
        ("class", "l", _text("label_name")),
        ("$n$", "r", _text("n")),
        (r"model (\%)", "r", _percent("accuracy")),
        (r"90\,\% interval", "c", _interval("low", "high", lambda end: percent(end).removesuffix("%"))),
        (r"reference (\%)", "r", _percent("reference_accuracy")),
        ("gap (points)", "r", _points("gap")),
        ("taken for", "l", _text("taken_for_name")),
    ),
    "stages": (
        ("pair", "l", _text("pair")),
        ("stage", "l", _text("stage")),
        ("$n$", "r", _text("n")),
        (r"accuracy (\%)", "r", _percent("accuracy")),
        *CHANGE,
    ),
    "trajectory": (
        ("run", "l", _text("trajectory")),
        ("checkpoint", "l", _text("checkpoint", "base")),
        ("step", "r", _text("step")),
        ("image set", "l", _text("image_set")),
        ("$n$", "r", _text("n")),
        (r"accuracy (\%)", "r", _percent("accuracy")),
        *CHANGE,
        ("verdict", "l", _text("verdict")),
    ),
    "history": (
        ("pair", "l", _text("pair")),
        ("run", "l", _text("run")),
        ("$n$", "r", _text("n")),
        (r"model (\%)", "r", _percent("accuracy")),
        *GAP,
        ("verdict", "l", _verdict),
    ),
}
