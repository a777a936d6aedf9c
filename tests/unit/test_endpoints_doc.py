"""docs/endpoints.md: its catalog entry is one, and its examples are Python that the oldest served environment reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog
from emt_plugin.cli import serve

TEXT = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_entry_is_taken_as_it_stands(tmp_path: Path) -> None:
    (entry,) = blocks("toml")
    (tmp_path / "emt.toml").write_text(entry)
    spec = Catalog.load(tmp_path / "emt.toml").model("openai/gpt-4o")
    assert (spec.id, spec.backend, spec.revision) == ("gpt-4o", "endpoint", "2026-11-01")
    assert spec.endpoint is not None
    assert spec.source == "endpoint:gpt-4o at https://api.openai.com/v1"
    assert (spec.endpoint.api_key_env, spec.endpoint.price_in, spec.endpoint.image) == ("OPENAI_API_KEY", 2.5, "png")
    # Without the entry it is a hub id, and nothing is asked.
    assert Catalog.load().model("openai/gpt-4o").backend == "transformers"


@pytest.mark.parametrize("text", [*blocks("python"), Path(serve.__file__).read_text(encoding="utf-8")])
def test_what_is_copied_is_read_by_python_3_8(text: str) -> None:
    tree = ast.parse(text, feature_version=(3, 8))
    assert "answer" in {found.name for found in ast.walk(tree) if isinstance(found, ast.FunctionDef)} or "def serve(" in text


def test_there_is_an_example_for_each_system() -> None:
    assert len(blocks("python")) == 3
    assert "not run here" in TEXT
