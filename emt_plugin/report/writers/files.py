"""All that is drawn from a run record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.report.writers.badge import write_badge
from emt_plugin.report.writers.eval_results import write_eval_results
from emt_plugin.report.writers.html import Source, draw, read_source
from emt_plugin.report.writers.summary import write_summary

if TYPE_CHECKING:
    from emt_plugin.settings import ReportMode


def write_all(folder: Path, mode: ReportMode = "single", source: Source | None = None) -> list[Path]:
    """Draw everything beside the record in ``folder``.

    Args:
        folder: of one run.
        mode: of the report, see ``render``.
        source: what is drawn, where that is more than the record.

    Returns:
        What was written, the report first.

    Raises:
        RecordError: the folder holds no run record that this version reads.
        OSError: something cannot be written.
    """
    source = source or read_source(folder)
    return [draw(source, mode), write_summary(folder, source.run), write_badge(folder), *write_eval_results(folder)]
