"""What the suite costs, as ratios measured in one run: ``pytest benchmarks --emt-throughput``, serial, on the CPU.

Ratios that are promised are asserted; seconds never are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from emt_plugin.throughput.workload import Workload


@pytest.mark.parametrize(("labels", "most"), [(10, 1.3), (100, 1.3), (1000, 2.0)])
def test_likelihood(emt_throughput: Workload, benchmark: Any, labels: int, most: float) -> None:
    """All labels cost little more than the prefill, and a fraction of a forward for each."""
    cost = benchmark.pedantic(emt_throughput.likelihood, args=(labels,), rounds=1)
    benchmark.extra_info.update(cost.as_record())
    assert cost.ratio("likelihood", "prefill") <= most
    if labels == 100:
        assert cost.ratio("a forward for each label", "likelihood") >= 80


@pytest.mark.parametrize("shape", ["Qwen2.5-VL", "BLIP-2 with a T5"])
def test_likelihood_in_other_shapes(emt_throughput: Workload, benchmark: Any, shape: str) -> None:
    """So they do where positions have three dimensions, and where an encoder reads the prompt."""
    cost = benchmark.pedantic(emt_throughput.shape, args=(shape,), rounds=1)
    benchmark.extra_info.update(cost.as_record())
    assert cost.facts["packed"]
    assert cost.ratio("likelihood", "prefill") <= 1.5


def test_likelihood_is_the_same(emt_throughput: Workload) -> None:
    """What is compared is the same work: the scores are those of a forward for each label."""
    together, one_by_one = emt_throughput.scores(10)
    assert together == pytest.approx(one_by_one, abs=1e-3)


def test_answers(emt_throughput: Workload, benchmark: Any) -> None:
    """The harness is thin: answers cost what a bare loop of ``model.generate`` costs, and are the same."""
    cost = benchmark.pedantic(emt_throughput.answers, rounds=1)
    benchmark.extra_info.update(cost.as_record())
    assert emt_throughput.same_answers()
    assert cost.ratio("answer", "bare generate") <= 1.05


def test_runs(emt_throughput: Workload, benchmark: Any) -> None:
    """A second run computes nothing, and a second checkpoint with the same tower sees no image anew."""
    cost = benchmark.pedantic(emt_throughput.runs, rounds=1)
    benchmark.extra_info.update(cost.as_record())
    assert cost.ratio("second run", "first run") < 0.1
    assert cost.ratio("second checkpoint, same tower", "first run") < 1


def test_engines(emt_throughput: Workload, benchmark: Any, tmp_path: Path) -> None:
    """Two actors of a Ray cluster on this machine, beside two workers: the same verdicts, and what each took."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pytest-emt[ray]'")
    from emt_plugin.throughput.engines import engines

    runs = benchmark.pedantic(engines, args=(tmp_path, Path(__file__).parent), rounds=1)
    benchmark.extra_info.update(runs.as_record())
    assert runs.verdicts["workers"] == runs.verdicts["actors"]
