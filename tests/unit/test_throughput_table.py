"""The performance table: what is in the JSON is what is in the document, between its marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_plugin.cli import main
from emt_plugin.report.writers.marks import marks

BEGIN, END = marks("throughput", "emt throughput")

RANKED = {
    "cpu_seconds_per_image": {
        "likelihood": 0.375,
        "prefill": 0.3,
        "a forward for each label": 30.0,
        "the same, logits of the label alone": 33.0,
    },
    "labels": 100,
    "prompt_tokens": 859,
    "label_tokens": 262,
    "labels_timed_one_by_one": 100,
}
SHAPE = {
    "cpu_seconds_per_image": {"likelihood": 0.2, "prefill": 0.16},
    "shape": "Qwen2.5-VL",
    "labels": 100,
    "prompt_tokens": 441,
    "label_tokens": 262,
}
ANSWERED = {"cpu_seconds_per_image": {"answer": 0.4, "bare generate": 0.5}, "new_tokens": 32, "batch": 16}
RUNS = {"cpu_seconds_per_image": {"first run": 0.4, "second run": 0.0005, "second checkpoint, same tower": 0.3}}


@pytest.fixture
def timings(tmp_path: Path) -> Path:
    benchmarks = [{"name": str(n), "extra_info": info} for n, info in enumerate((RANKED, SHAPE, ANSWERED, RUNS, {}))]
    content = {
        "machine_info": {"cpu": {"brand_raw": "A CPU", "count": 2}},
        "datetime": "2026-11-24T01:02:03",
        "benchmarks": benchmarks,
    }
    path = tmp_path / "throughput.json"
    path.write_text(json.dumps(content))
    return path


def test_the_table(timings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["throughput", str(timings)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| 0.375 | the prefill alone | 0.3 | 1.25× |" in lines[2]
    assert lines[3].endswith("| 0.375 | a forward for each label | 30 | 1 / 80 |")
    ranked = "100 labels ranked by a Qwen2.5-VL (441 prompt tokens, 262 label tokens)"
    assert lines[5] == f"| {ranked} | 0.2 | the prefill alone | 0.16 | 1.25× |"
    assert lines[6].endswith("| 0.4 | a bare loop of `model.generate` | 0.5 | 0.80× |")
    assert lines[7].endswith("| 0.0005 | the first time | 0.4 | 1 / 800 |")
    assert lines[-1] == "2026-11-24, A CPU, 2 cores, float32."


def test_it_goes_between_its_marks_and_touches_nothing_else(timings: Path, tmp_path: Path) -> None:
    document = tmp_path / "throughput.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["throughput", str(timings), "--write", str(document)]) == 0
    once = document.read_text()
    assert once.startswith(f"before\n{BEGIN}\n| |")
    assert once.endswith(f"\n{END}\nafter\n")
    assert "old" not in once
    assert main(["throughput", str(timings), "--write", str(document)]) == 0
    assert document.read_text() == once


def test_what_is_wrong_is_one_sentence(timings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "throughput.md"
    document.write_text("no marks")
    assert main(["throughput", str(timings), "--write", str(document)]) == 1
    assert "has no place for the table" in capsys.readouterr().err
    assert main(["throughput", str(document)]) == 1
    assert "holds no timings" in capsys.readouterr().err
    assert main(["throughput", str(tmp_path / "none.json")]) == 1
    assert "pytest benchmarks --emt-throughput --benchmark-json=" in capsys.readouterr().err
