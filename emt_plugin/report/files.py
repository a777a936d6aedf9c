"""All that is drawn from a run record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.report.badge import write_badge
from emt_plugin.report.eval_results import write_eval_results
from emt_plugin.report.html import draw, read_source
from emt_plugin.report.summary import write_summary

if TYPE_CHECKING:
    from emt_plugin.settings import ReportMode


def write_all(folder: Path, mode: ReportMode = "single", compare: Path | None = None) -> list[Path]:
    """Draw everything beside the record in ``folder``.

    Args:
        folder: of one run.
        mode: of the report, see ``render``.
        compare: folder of an earlier run to set beside it.

    Returns:
        What was written, the report first.

    Raises:
        RecordError: the folder holds no run record that this version reads.
        OSError: something cannot be written.
    """
    source = read_source(folder, compare)
    return [draw(source, mode), write_summary(folder, source.run), write_badge(folder), *write_eval_results(folder)]
