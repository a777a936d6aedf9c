"""The history file: JSON lines, only ever appended to, whole under several writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from emt_plugin.runs.lines import SCHEMA, Line, checked_line
from emt_plugin.runs.naming import LATEST

WAIT_SECONDS = 60
# What lines of this schema did not have from the first.
LATER = ("split", "marks")


class HistoryError(ValueError):
    """A history file that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Pin:
    """A run that was released.

    Attributes:
        run_id: the run.
        name: what the release is called.
        at: when it was pinned, ISO 8601.
    """

    run_id: str
    name: str
    at: str


@dataclass(frozen=True)
class History:
    """A history file, read.

    Attributes:
        lines: of all runs, by their start.
        pins: releases, the latest last.
        torn: lines that a writer did not finish, which are passed over.
    """

    lines: tuple[Line, ...]
    pins: tuple[Pin, ...]
    torn: int = 0


def read_history(path: Path) -> History:
    """Read a history file; one that is not there yet is empty.

    Raises:
        HistoryError: it is no history, or a later version's.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return History((), ())
    except OSError as error:
        raise HistoryError(f"cannot read the history {path}: {error.strerror}; name another file with --emt-history") from None
    lines: list[Line] = []
    pins: list[Pin] = []
    torn = 0
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            torn += 1
            continue
        found = _entry(path, number, entry)
        if isinstance(found, Pin):
            pins.append(found)
        else:
            lines.append(found)
    if torn and not lines and not pins:
        raise HistoryError(f"{path} is no history: none of its lines is JSON; name another file with --emt-history")
    # Two histories that were put together may have a run twice.
    once = {(line.run_id, line.pair): line for line in lines}
    return History(tuple(sorted(once.values(), key=lambda line: line.started)), tuple(pins), torn)


def _entry(path: Path, number: int, entry: Any) -> Line | Pin:
    schema = entry.get("schema") if isinstance(entry, Mapping) else None
    if schema != SCHEMA:
        what = f"has schema {schema}, and this version reads {SCHEMA}" if schema else "is no line of a history"
        raise HistoryError(f"{path}, line {number}: it {what}; name another file with --emt-history")
    try:
        if "pin" in entry:
            return Pin(*(_text(entry[name]) for name in ("pin", "name", "at")))
        known = {field.name: entry[field.name] for field in fields(Line) if field.name in entry or field.name not in LATER}
        return checked_line(Line(**known))
    except (TypeError, ValueError) as error:
        raise HistoryError(f"{path}, line {number}: {error}; name another file with --emt-history") from None
    except KeyError as error:
        raise HistoryError(f"{path}, line {number}: it lacks {error}; name another file with --emt-history") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def append(path: Path, lines: Iterable[Line]) -> None:
    """Append the lines of one run, all or none of them.

    Raises:
        HistoryError: it cannot be written.
    """
    _append(path, [asdict(line) for line in lines])


def pin(path: Path, name: str, release: str) -> str:
    """Call a run of the history a release: later runs are compared with the one that was pinned last.

    Args:
        path: the history.
        name: the run's id, the beginning of one only, or ``latest``.
        release: what the release is called.

    Returns:
        The run's id.

    Raises:
        HistoryError: the history has no such run, or several, or cannot be written.
    """
    known = list(dict.fromkeys(line.run_id for line in read_history(path).lines if line.status == "measured"))
    found = [name] if name in known else [run for run in known if name and run.startswith(name)]
    found = known[-1:] if name == LATEST and not found else found
    some = ", ".join((found or known)[-5:]) or "none"
    if not found:
        raise HistoryError(f"{path} has no run '{name}' that measured anything; its last ones: {some}")
    if len(found) > 1:
        raise HistoryError(f"'{name}' begins the ids of {len(found)} runs of {path}: {some}; write more of one")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    _append(path, [{"schema": SCHEMA, "pin": found[0], "name": release, "at": at}])
    return found[0]


def check_appendable(path: Path) -> None:
    """Find out before a run whether its lines can be written after it.

    Raises:
        HistoryError: they cannot, or what is there is no history.
    """
    read_history(path)
    _append(path, [])


def _write_or_undo(file: IO[bytes], text: bytes, size: int) -> None:
    left = memoryview(text)
    try:
        # A file without a buffer takes as much as there is room for, and says how much that was.
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError:
        # Half a run would pass for a whole one.
        os.ftruncate(file.fileno(), size)
        raise


def _append(path: Path, entries: list[dict[str, Any]]) -> None:
    text = "".join(f"{json.dumps(entry, allow_nan=False)}\n" for entry in entries).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=WAIT_SECONDS), path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and entries:
                file.seek(size - 1)
                # A writer that was killed may have left half a line: it must not take the next one with it.
                text = text if file.read(1) == b"\n" else b"\n" + text
            if text:
                _write_or_undo(file, text, size)
    except Timeout:
        raise HistoryError(f"cannot write the history {path}: another process holds {path}.lock") from None
    except OSError as error:
        raise HistoryError(f"cannot write the history {path}: {error.strerror}; name another file with --emt-history") from None
