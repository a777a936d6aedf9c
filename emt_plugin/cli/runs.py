"""``emt report``, ``compare``, ``merge`` and ``history``: what is done with runs that are there already."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.gate.exit_code import FAILED, INCOMPLETE, INCONCLUSIVE, PASSED, USAGE
from emt_plugin.records import Flip, RecordError, RunChanges, RunRecord
from emt_plugin.records.adjusting import more
from emt_plugin.records.journal import predictions_file
from emt_plugin.report.writers.colours import show
from emt_plugin.runs.history import HistoryError, pin, read_history
from emt_plugin.settings import REPORT_MODES

if TYPE_CHECKING:
    from emt_plugin.report.writers.html import Source

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
MOST_FLIPS = 10
MOST_RUNS = 20


def add_run_commands(add: Add) -> None:
    """Register the commands."""
    report = add("report", _report, "draw report.html and all that stands beside it anew, from the record of a run")
    report.add_argument("folder", type=Path, metavar="RUN_DIR", help="folder of one run, such as reports/20261124-101500-1f2e")
    report.add_argument("--report", choices=REPORT_MODES, default="single", help="one file, or assets beside it [single]")
    report.add_argument("--compare", type=Path, metavar="RUN", help="folder of an earlier run to set beside it")
    compare = add(
        "compare", _compare, "compare two runs on the same images, and exit like the gate; 3 if a pair was not compared"
    )
    compare.add_argument("before", type=Path, metavar="A", help="folder of the earlier run")
    compare.add_argument("after", type=Path, metavar="B", help="folder of the later run")
    compare.add_argument("--tolerance", type=float, metavar="X", help="largest loss that passes, a fraction [B's policy]")
    compare.add_argument("--flips", type=int, default=MOST_FLIPS, metavar="N",
        help=f"images of each pair and direction to list [{MOST_FLIPS}]")  # fmt: skip
    merge = add("merge", _merge, "join the runs of shards into one, and exit with its exit code")
    merge.add_argument("folders", type=Path, nargs="+", metavar="RUN_DIR", help="folders of runs, or folders that hold some")
    merge.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="folder in which it lands [reports]")
    merge.add_argument("--history", "--emt-history", type=Path, metavar="FILE", help="append the joined run to this history")
    merge.add_argument("--compare", "--emt-compare", type=Path, metavar="RUN", help="folder of an earlier run to set beside it")
    merge.add_argument("--report", "--emt-report", choices=REPORT_MODES, default="single",
        help="one file, or assets beside it [single]")  # fmt: skip
    merge.add_argument("--no-grid", action="store_true", help="not every model needs to have been run on every image set")
    history = add("history", _history, "show the runs of a history, or pin one of them as the release")
    history.add_argument("file", type=Path, metavar="FILE", help="what --emt-history appends to")
    history.add_argument("--pin", metavar="RUN", help="id of the run that was released")
    history.add_argument("--name", metavar="NAME", default="release", help="what that release is called [release]")
    history.add_argument("--last", type=_positive, default=MOST_RUNS, metavar="N", help=f"show so many runs [{MOST_RUNS}]")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of runs; write a whole number of at least 1")
    return int(text)


def _report(options: argparse.Namespace) -> int:
    from emt_plugin.report import write_all
    from emt_plugin.report.writers.html import read_source

    with _readable(options.folder):
        source = read_source(options.folder)
        written = write_all(options.folder, options.report, _beside(source, options.compare) if options.compare else source)
    for path in written:
        print(path)
    run = RunRecord.read(options.folder)
    bare = [pair.key.id for pair in run.pairs if pair.n and not predictions_file(options.folder, pair.key.file_name).exists()]
    if bare:
        print(f"emt: there are no predictions beside the record of {bare[0]}{more(bare)}: classes and images are left out")
    return 0


def _beside(source: Source, folder: Path) -> Source:
    """What is drawn, with an earlier run beside it, before those that the record has."""
    from emt_plugin.runs.beside import beside_run, with_first

    named, flips = beside_run(source.run, source.rows, folder)
    return replace(source, run=replace(source.run, changes=with_first(named.changes[0], source.run.changes)), flips=flips)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Whatever a record from elsewhere leads to is a fault of the record.

    Raises:
        RecordError: it can be read and not be drawn.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RecordError(
            f"the record in {folder} cannot be drawn ({type(error).__name__}: {error}); it is damaged, or no run wrote it"
        ) from None


def _compare(options: argparse.Namespace) -> int:
    from emt_plugin.gate.tolerances import TolerancesError, checked
    from emt_plugin.runs.beside import beside_run, rows_of

    try:
        if options.tolerance is not None:
            checked(options.tolerance, "--tolerance")
        with _readable(options.after):
            after = RunRecord.read(options.after)
            run, flipped = beside_run(after, rows_of(options.after, after), options.before, options.tolerance)
            lines = _compared(run.changes[0], run, flipped, options.flips)
    except (RecordError, TolerancesError, OSError) as error:
        # 1 would read as a verdict.
        print(f"emt: {error}", file=sys.stderr)
        return USAGE
    show(lines)
    return _code(run.changes[0])


def _compared(changes: RunChanges, run: RunRecord, flipped: dict[str, list[Flip]], most: int) -> list[str]:
    from emt_plugin.report.words import since as since_words
    from emt_plugin.report.writers.terminal import change_table

    lines = [f"run {run.run_id}, since {changes.name} ({changes.started.replace('T', ' ')[:16]} UTC)"]
    lines += ["", *change_table(changes)] if any(change.comparison for change in changes.pairs) else []
    said = since_words.since(changes, run)
    lines += ["", *(f"{line.name.lower()}: {line.text}" for line in said)]
    pairs = {pair.key.id: pair for pair in run.pairs}
    for name, found in flipped.items():
        for lost, title in ((True, "right to wrong"), (False, "wrong to right")):
            lines += since_words.flips(pairs[name], [flip for flip in found if flip.lost == lost], title, most)
    return lines


def _code(changes: RunChanges) -> int:
    """What the gate would exit with: what was not compared never passes."""
    verdicts = {change.comparison.verdict if change.comparison else None for change in changes.pairs}
    if not verdicts or None in verdicts:
        return INCOMPLETE
    return FAILED if "FAIL" in verdicts else INCONCLUSIVE if "INCONCLUSIVE" in verdicts else PASSED


def _merge(options: argparse.Namespace) -> int:
    from emt_plugin.report import write_all
    from emt_plugin.report.writers.summary import append_to_step_summary
    from emt_plugin.report.writers.terminal import table
    from emt_plugin.runs.history import check_appendable
    from emt_plugin.runs.merging import MergeError, merge

    try:
        if options.history:
            check_appendable(options.history)
        with _readable(options.out):
            run, folder = merge(options.folders, options.out, options.compare, options.history, not options.no_grid)
            write_all(folder, options.report)
    except (MergeError, RecordError, HistoryError, OSError) as error:
        # Runs that do not make one are no verdict, and no pass.
        print(f"emt: {error}", file=sys.stderr)
        return INCOMPLETE
    noted = append_to_step_summary(folder / "summary.md")
    show([*table(run), *noted, "", f"report: {folder / 'report.html'}", f"exit code: {run.exit_code}"])
    return run.exit_code


def _history(options: argparse.Namespace) -> int:
    from emt_plugin.report.writers.terminal import drawn, history_rows

    if options.pin is not None:
        pin(options.file, options.pin, options.name)
        print(f"later runs with --emt-history {options.file} are compared with {options.pin}, release {options.name}")
        return 0
    history = read_history(options.file)
    if not history.lines:
        print(f"{options.file} holds no run yet")
    show(drawn(history_rows(history, options.last), {0, 1, 5}) if history.lines else [])
    if history.torn:
        print(f"{history.torn} lines were not finished by their writer, and are passed over")
    return 0
