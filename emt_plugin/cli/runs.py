"""``emt runs``, ``report``, ``compare``, ``export``, ``merge`` and ``history``: what is done with runs that are there."""

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
from emt_plugin.runs.naming import REPORTS, known_runs, run_folder
from emt_plugin.settings import REPORT_MODES

if TYPE_CHECKING:
    from emt_plugin.report.writers.html import Source

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
RUN = "a run's folder, its id, the beginning of one, or latest"
EXPORTS = {
    "csv": "tables for spreadsheets",
    "parquet": "tables with their types",
    "latex": "tables with booktabs",
    "svg": "figures that scale; needs matplotlib",
    "png": "figures as pixels; needs matplotlib",
}
MOST_FLIPS = 10
MOST_RUNS = 20


def add_run_commands(add: Add) -> None:
    """Register the commands."""
    runs = add("runs", _runs, "list the runs of a folder, the newest last")
    add_reports(runs)
    runs.add_argument("--last", type=_positive, default=MOST_RUNS, metavar="N", help=f"show so many runs [{MOST_RUNS}]")
    report = add("report", _report, "draw report.html and all that stands beside it anew, from the record of a run")
    report.add_argument("run", metavar="RUN", help=RUN)
    report.add_argument("--report", choices=REPORT_MODES, default="single", help="one file, or assets beside it [single]")
    report.add_argument("--compare", metavar="RUN", help="an earlier run to set beside it")
    add_reports(report)
    compare = add(
        "compare", _compare, "compare two runs on the same images, and exit like the gate; 3 if a pair was not compared"
    )
    compare.add_argument("before", metavar="A", help=f"the earlier run: {RUN}")
    compare.add_argument("after", metavar="B", help="the later run")
    add_reports(compare)
    compare.add_argument("--tolerance", type=float, metavar="X", help="largest loss that passes, a fraction [B's policy]")
    compare.add_argument("--flips", type=int, default=MOST_FLIPS, metavar="N",
        help=f"images of each pair and direction to list [{MOST_FLIPS}]")  # fmt: skip
    export = add("export", _export, "write a run's tables and figures as files")
    export.add_argument("run", metavar="RUN", help=RUN)
    for kind, text in EXPORTS.items():
        export.add_argument(f"--{kind}", action="store_true", help=text)
    export.add_argument("--out", type=Path, metavar="DIR", help="where they go [export in the run's folder]")
    add_reports(export)
    merge = add("merge", _merge, "join the runs of shards into one, and exit with its exit code")
    merge.add_argument("runs", nargs="+", metavar="RUN", help=f"{RUN}; or a folder that holds several runs")
    merge.add_argument(
        "--out",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="folder in which it lands, and in which ids are looked up [reports]",
    )
    merge.add_argument("--history", "--emt-history", type=Path, metavar="FILE", help="append the joined run to this history")
    merge.add_argument("--compare", "--emt-compare", metavar="RUN", help="an earlier run to set beside it")
    merge.add_argument("--report", "--emt-report", choices=REPORT_MODES, default="single",
        help="one file, or assets beside it [single]")  # fmt: skip
    merge.add_argument("--no-grid", action="store_true", help="not every model needs to have been run on every image set")
    history = add("history", _history, "show the runs of a history, or pin one of them as the release")
    history.add_argument("file", type=Path, metavar="FILE", help="what --emt-history appends to")
    history.add_argument("--pin", metavar="RUN", help="the run that was released: its id, the beginning of one, or latest")
    history.add_argument("--name", metavar="NAME", default="release", help="what that release is called [release]")
    history.add_argument("--last", type=_positive, default=MOST_RUNS, metavar="N", help=f"show so many runs [{MOST_RUNS}]")


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Where runs are looked up by their ids."""
    parser.add_argument("--reports", "--emt-reports", type=Path, default=REPORTS, metavar="DIR",
        help=f"folder that holds the runs [{REPORTS}]")  # fmt: skip


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of runs; write a whole number of at least 1")
    return int(text)


def _runs(options: argparse.Namespace) -> int:
    from emt_plugin.report.writers.listing import run_rows
    from emt_plugin.report.writers.terminal import drawn

    found = known_runs(options.reports)
    if not found:
        print(f"{options.reports} holds no run")
        return 0
    for line in drawn(run_rows(found[-options.last :]), {0, 1, 2, 3, 4, 6}):
        print(line)
    if len(found) > options.last:
        print(f"and {len(found) - options.last} older; --last N lists more")
    return 0


def _export(options: argparse.Namespace) -> int:
    from emt_plugin.api.exporting import KINDS, export
    from emt_plugin.api.run import load_run

    kinds = [kind for kind in KINDS if getattr(options, kind)]
    if not kinds:
        print(f"emt: say what to write: {', '.join(f'--{kind}' for kind in KINDS)}", file=sys.stderr)
        return 2
    run = load_run(options.run, options.reports)
    with _readable(run.folder):
        written = export(run, kinds, options.out or run.folder / "export")
    for path in written:
        print(path)
    _say_what_is_left_out(run.record, run.folder)
    return 0


def _report(options: argparse.Namespace) -> int:
    from emt_plugin.report import write_all
    from emt_plugin.report.writers.html import read_source

    folder = run_folder(options.run, options.reports)
    earlier = run_folder(options.compare, options.reports) if options.compare else None
    with _readable(folder):
        source = read_source(folder)
        written = write_all(folder, options.report, _beside(source, earlier) if earlier else source)
    for path in written:
        print(path)
    _say_what_is_left_out(RunRecord.read(folder), folder)
    return 0


def _say_what_is_left_out(run: RunRecord, folder: Path) -> None:
    bare = [pair.key.id for pair in run.pairs if pair.n and not predictions_file(folder, pair.key.file_name).exists()]
    if bare:
        print(f"emt: there are no predictions beside the record of {bare[0]}{more(bare)}: classes and images are left out")


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
        before, folder = (run_folder(name, options.reports) for name in (options.before, options.after))
        with _readable(folder):
            after = RunRecord.read(folder)
            run, flipped = beside_run(after, rows_of(folder, after), before, options.tolerance)
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
        earlier = run_folder(options.compare, options.out) if options.compare else None
        # A folder may hold several runs.
        named = [Path(name) if Path(name).is_dir() else run_folder(name, options.out) for name in options.runs]
        with _readable(options.out):
            run, folder = merge(named, options.out, earlier, options.history, not options.no_grid)
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
        pinned = pin(options.file, options.pin, options.name)
        print(f"later runs with --emt-history {options.file} are compared with {pinned}, release {options.name}")
        return 0
    history = read_history(options.file)
    if not history.lines:
        print(f"{options.file} holds no run yet")
    show(drawn(history_rows(history, options.last), {0, 1, 5}) if history.lines else [])
    if history.torn:
        print(f"{history.torn} lines were not finished by their writer, and are passed over")
    return 0
