"""A run by what a person calls it: its folder, its id, the beginning of that, or ``latest``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emt_plugin.errors import one_line
from emt_plugin.records import RecordError

LATEST = "latest"
REPORTS = Path("reports")
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]+")
MOST_NAMED = 5


@dataclass(frozen=True)
class Known:
    """A run in a folder of runs.

    Attributes:
        folder: the run's own.
        id: its id: the folder's name, or what the record says where somebody renamed the folder.
        order: what sorts runs by their start.
    """

    folder: Path
    id: str
    order: tuple[str, int]


def run_folder(name: str | Path, reports: Path = REPORTS, start: Path = Path()) -> Path:
    """The folder of a run.

    Args:
        name: the folder, the ``run.json`` in it, the run's id, the beginning of one id only, or ``latest``.
        reports: the folder that holds runs, in which ids are looked up.
        start: from where relative folders are meant.

    Raises:
        RecordError: there is no such run, or more than one.
    """
    given = Path(name).expanduser()
    path = start / given
    path = path.parent if path.name == "run.json" else path
    if (path / "run.json").is_file():
        return path
    text = str(name)
    if len(given.parts) > 1:
        raise RecordError(f"{path} holds no run.json; name the folder of one run")
    runs = known_runs(reports)
    if text == LATEST and runs:
        return runs[-1].folder
    found = [run for run in runs if text in (run.id, run.folder.name)] or [
        run for run in runs if text and (run.id.startswith(text) or run.folder.name.startswith(text))
    ]
    if len(found) == 1:
        return found[0].folder
    if found:
        raise RecordError(
            f"{one_line(text)} begins the ids of {len(found)} runs in {reports}: {_some(found)}; write more of one"
        )
    if not runs:
        raise RecordError(f"no run {one_line(text)}: it is no folder with a run.json, and there is no run in {reports}")
    raise RecordError(f"no run {one_line(text)} in {reports}, and no folder of that name has a run.json; known: {_some(runs)}")


def known_runs(reports: Path) -> list[Known]:
    """The runs in a folder of runs, the oldest first; what has no ``run.json`` yet is none."""
    found = [_known(path.parent) for path in sorted(reports.glob("*/run.json"))]
    # A link beside the folder that it points to is the same run.
    once = {run.folder.resolve(): run for run in sorted(found, key=lambda run: run.folder.is_symlink(), reverse=True)}
    return sorted(once.values(), key=lambda run: run.order)


def _known(folder: Path) -> Known:
    written = (folder / "run.json").stat().st_mtime_ns
    if RUN_ID.fullmatch(folder.name):
        return Known(folder, folder.name, (folder.name[:15], written))
    try:
        content = json.loads((folder / "run.json").read_bytes())
        run_id, started = str(content["run_id"]), str(content["started"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        # What cannot be read is said when it is asked for by its folder's name.
        return Known(folder, folder.name, ("", written))
    return Known(folder, run_id, (re.sub(r"[-:]", "", started)[:15].replace("T", "-"), written))


def _some(runs: Sequence[Known]) -> str:
    newest = [one_line(run.id) for run in reversed(runs)]
    return ", ".join(newest[:MOST_NAMED]) + (f" and {len(newest) - MOST_NAMED} more" if len(newest) > MOST_NAMED else "")
