"""Tables that a command writes into a document, between two marks."""

from __future__ import annotations

from pathlib import Path


class MarksError(ValueError):
    """A document without a place for the table; the message says what to put there."""


def put_between(path: Path, name: str, command: str, text: str) -> None:
    """Replace what stands between a document's marks.

    Args:
        path: the document.
        name: of the marks.
        command: what writes the table, for people who would edit it by hand.
        text: what goes there.

    Raises:
        MarksError: the document has no such marks.
    """
    begin, end = marks(name, command)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise MarksError(f"{path} has no place for the table: put {begin} and {end} where it goes")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def marks(name: str, command: str) -> tuple[str, str]:
    """The marks before and behind a table."""
    return f"<!-- {name}: written by `{command}` -->", f"<!-- /{name} -->"
