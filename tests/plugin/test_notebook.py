"""examples/notebook.ipynb runs, and shows its tables and figures."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.mark.thorough
# Of the kernel's client, which is on its way from tornado's loop to asyncio's.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures as a notebook shows them, not as tests do.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kept = os.environ.get("EMT_NOTEBOOK")
    if kept:
        nbformat.write(notebook, kept)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type != "stream"]
    assert sum("image/png" in output.data for output in outputs) == 4
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.data]
    assert "FAIL: " in pages[0]
    assert all("<table" in page for page in pages)
    assert len(pages) == 6
    assert len(list((tmp_path / "reports").glob("*/report.html"))) == 2


def test_the_notebook_is_kept_without_what_it_showed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
