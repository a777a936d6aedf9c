"""The tables and figures of a run as files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emt_plugin.api.plots import Plots, own_axes
from emt_plugin.api.run import Run
from emt_plugin.records import RecordError
from emt_plugin.report.writers.tables import csv_text, latex_text
from emt_plugin.runs.tables import TABLES, Table, table_of
from emt_plugin.store.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["csv", "parquet", "latex", "svg", "png"]
KINDS: tuple[Kind, ...] = ("csv", "parquet", "latex", "svg", "png")
PICTURES: tuple[Kind, ...] = ("svg", "png")
DPI = 200


def export(run: Run, kinds: Collection[Kind], out: Path) -> list[Path]:
    """Write the tables and figures of a run.

    Args:
        run: it.
        kinds: of files; tables for ``csv``, ``parquet`` and ``latex``, figures for ``svg`` and ``png``.
        out: the folder; made where there is none.

    Returns:
        What was written. A table without rows has a file; of what there is nothing to draw, there is none.

    Raises:
        CouldNotRun: figures need matplotlib, which is not installed.
        RecordError: a file of predictions cannot be read.
        OSError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = [file for kind in KINDS if kind in kinds for file in (_figures if kind in PICTURES else _tables)(run, kind)]
    for name, content in made:
        write_atomically(out / name, content)
    return [out / name for name, _ in made]


def _tables(run: Run, kind: Kind) -> Iterator[tuple[str, bytes]]:
    for name in TABLES:
        table = table_of(name, run.record, lambda: run.rows)
        if kind == "parquet":
            yield f"{name}.parquet", _parquet(table)
        elif kind == "csv":
            yield f"{name}.csv", csv_text(table).encode()
        elif text := latex_text(table):
            yield f"{name}.tex", text.encode()


def _parquet(table: Table) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    moment = pa.timestamp("us", tz="UTC")
    types = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "truth": pa.bool_(), "time": moment}
    columns = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.columns)
    arrays = [
        pa.array(map(datetime.fromisoformat, values) if column.kind == "time" else values, types[column.kind])
        for column, values in zip(table.columns, columns, strict=True)
    ]
    file = io.BytesIO()
    pq.write_table(pa.table(arrays, names=[column.name for column in table.columns]), file)
    return file.getvalue()


def _figures(run: Run, kind: Kind) -> Iterator[tuple[str, bytes]]:
    plots = Plots(run.record, lambda: run.rows, own_axes)
    drawn: dict[str, Callable[[], Axes]] = {"gaps": plots.gaps, "stages": plots.stages}
    for trajectory in run.record.trajectories:
        drawn[f"trajectory-{trajectory.name}"] = partial(plots.trajectory, trajectory.name)
    for pair in run.record.pairs:
        drawn[f"confusion-{pair.key.file_name}"] = partial(plots.confusion, pair.key.id)
    for name, draw in drawn.items():
        with suppress(RecordError):
            yield f"{re.sub(r'[^A-Za-z0-9._@-]', '-', name)}.{kind}", _picture(draw(), kind)


def _picture(ax: Axes, kind: Kind) -> bytes:
    import matplotlib as mpl

    file, figure = io.BytesIO(), ax.get_figure(root=True)
    assert figure is not None
    # The same run gives the same file.
    with mpl.rc_context({"svg.hashsalt": "emt"}):
        figure.savefig(file, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()
