"""A run that is there already: its record, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.records import Row, RunRecord
from emt_plugin.runs.naming import REPORTS, run_folder

if TYPE_CHECKING:
    import pandas

    from emt_plugin.api.plots import Plots


class Run:
    """One run, read from its folder.

    Tables are pandas DataFrames made anew each time: accuracies, gaps, intervals and tolerances are fractions, predictions
    and labels are indices with their names in a column beside them, and what is not known is missing (``pandas.NA`` or NaN).
    A table without rows has its columns all the same. Each raises ``CouldNotRun`` where pandas is not installed.

    Attributes:
        folder: the run's folder, with ``run.json`` and ``report.html``.
        record: the run record, whole.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = record

    @property
    def id(self) -> str:
        """Id of the run."""
        return self.record.run_id

    @property
    def exit_code(self) -> int:
        """What the run exited with: 0 all PASS, 1 a FAIL, 2 stopped, 3 incomplete, 7 INCONCLUSIVE."""
        return self.record.exit_code

    @property
    def verdict(self) -> str:
        """The run in one line, as its report begins."""
        from emt_plugin.report.words.verdicts import headline

        return headline(self.record)

    @property
    def pairs(self) -> pandas.DataFrame:
        """A row for each pair: accuracies, gap, interval, tolerance and verdict of the comparison that gates."""
        return self._frame("pairs")

    @property
    def images(self) -> pandas.DataFrame:
        """A row for each image of each pair: label, answer, prediction, and what the reference says; empty without predictions.

        Raises:
            RecordError: a file of predictions cannot be read.
        """
        return self._frame("images")

    @property
    def classes(self) -> pandas.DataFrame:
        """A row for each class of each pair that has images; empty without predictions.

        Raises:
            RecordError: a file of predictions cannot be read.
        """
        return self._frame("classes")

    @property
    def stages(self) -> pandas.DataFrame:
        """A row for each stage of each pair from the encoder to the answer, as far as they were measured."""
        return self._frame("stages")

    @property
    def trajectory(self) -> pandas.DataFrame:
        """A row for each state and image set of each trajectory; empty for a run without checkpoints."""
        return self._frame("trajectory")

    @property
    def history(self) -> pandas.DataFrame:
        """A row for each pair and run of the history, this run last; empty for a run that kept none."""
        return self._frame("history")

    @property
    def plot(self) -> Plots:
        """Figures of the run: ``gaps()``, ``stages()``, ``trajectory()`` and ``confusion()``."""
        from emt_plugin.api.plots import Plots

        return Plots(self.record, lambda: self.rows)

    @cached_property
    def rows(self) -> Mapping[str, Sequence[Row]]:
        """The images of each pair as the run wrote them down, by pair id, in the order of the subset.

        Raises:
            RecordError: a file of predictions cannot be read.
        """
        from emt_plugin.runs.beside import rows_of

        return rows_of(self.folder, self.record)

    def _frame(self, name: str) -> pandas.DataFrame:
        from emt_plugin.api.frames import frame
        from emt_plugin.runs.tables import table_of

        return frame(table_of(name, self.record, lambda: self.rows))

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.verdict}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict and the table of pairs."""
        from emt_plugin.report.writers.cell import cell

        return cell(self.record, self.folder)


def load_run(run: str | Path = "latest", reports: str | Path = REPORTS) -> Run:
    """Read a run.

    Args:
        run: its folder, its id, the beginning of one id only, or ``latest``.
        reports: the folder that holds runs, in which ids are looked up.

    Raises:
        RecordError: there is no such run, more than one, or its record cannot be read.
    """
    folder = run_folder(run, Path(reports).expanduser())
    return Run(folder, RunRecord.read(folder))
