"""Colour for a terminal: verdicts, marks and heads of tables, in lines whose text and width stay as they are."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

RED, GREEN, YELLOW, BOLD, RESET = "\x1b[31;1m", "\x1b[32;1m", "\x1b[33;1m", "\x1b[1m", "\x1b[0m"
TONES = {
    "PASS": GREEN, "FAIL": RED, "FORGOT": RED, "INCONCLUSIVE": YELLOW, "INCOMPLETE": YELLOW, "NO VERDICT": YELLOW,
    "CRASHED": YELLOW, "COULD NOT RUN": YELLOW, "NOT RUN": YELLOW, "✗": RED, "worse": RED, "attention": YELLOW,
}  # fmt: skip
VERDICTS = "PASS|FAIL|INCONCLUSIVE|NO VERDICT|CRASHED|COULD NOT RUN|NOT RUN"
# A cell of its own, the first word of a line, or a mark behind a number: never a word in a sentence or a name.
PLACES = re.compile(
    rf"(?<=  )(?:{VERDICTS})(?=  | \(|$)|^(?:PASS|FAIL|FORGOT|INCONCLUSIVE|INCOMPLETE)(?=:)"
    r"|^(?:  )?(?:worse|attention)(?=:)|(?<=% )✗"
)
HEAD = re.compile(r"^(?:pair|state|run) {2,}.*$")


def painted(line: str) -> str:
    """A line of a table or a headline, coloured."""
    if HEAD.match(line):
        return f"{BOLD}{line}{RESET}"
    return PLACES.sub(lambda found: f"{TONES[found[0].strip()]}{found[0]}{RESET}", line)


def show(lines: Iterable[str]) -> None:
    """Print lines, in colour where that was asked for or a person looks on, as pytest decides it.

    ``NO_COLOR`` goes before ``FORCE_COLOR``, and either before what standard output is.
    """
    coloured = _wanted()
    for line in lines:
        print(painted(line) if coloured else line)


def _wanted() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
