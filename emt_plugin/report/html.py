"""``report.html``: one self-contained page, drawn from a run's folder."""

from __future__ import annotations

from pathlib import Path

from emt_plugin.records import RunRecord, read_predictions
from emt_plugin.records.files import write_atomically


def render(folder: Path) -> Path:
    """Draw ``report.html`` from the run record, predictions and thumbnails in ``folder``.

    Raises:
        RecordError: the folder holds no run record that this version reads.
        OSError: the report cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from emt_plugin.report.view import report_view

    run = RunRecord.read(folder)
    rows = {pair.key.id: read_predictions(folder, pair.key.file_name) for pair in run.pairs}
    environment = Environment(
        loader=PackageLoader("emt_plugin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(view=report_view(run, rows, folder / "thumbs"))
    path = folder / "report.html"
    write_atomically(path, page.encode("utf-8", "replace"))
    return path
