"""The simulation of docs/training.md follows the rule that stops a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emt_plugin.finetune.false_stops import LOOKS, SETS, Training, smallest_p, stopped_at
from emt_plugin.gate import findings
from emt_plugin.stats import alpha_at

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
NAMES = ("a", "b", "c")


def failed(tables: list[list[int]], images: int, look: int) -> bool:
    """Whether a look at these counts stops a training."""
    now, base = {}, {}
    for name, (gained, lost) in zip(NAMES, tables, strict=True):
        rest = [True] * (images - gained - lost)
        now[name] = [True] * gained + [False] * lost + rest
        base[name] = [False] * gained + [True] * lost + rest
    found = findings(now, base, NAMES, look, 0.05, dict.fromkeys(NAMES, 0.1))
    return any(finding.failed for finding in found.values())


def test_it_stops_where_the_rule_does() -> None:
    generator = np.random.default_rng(7)
    counts = generator.multinomial(120, [0.05, 0.17, 0.78], (60, 3))[..., :2]
    smallest = smallest_p(counts, 120)
    for look in (1, 4):
        stops = (smallest < alpha_at(look)).tolist()
        assert stops == [failed(run, 120, look) for run in counts.tolist()]
        assert {True, False} == set(stops)


@pytest.mark.parametrize("kept", [0.0, 0.9])
def test_what_is_drawn_has_the_gap_and_the_discordance(kept: float) -> None:
    training = Training(-0.1, 0.3, looks=3, sets=2, images=1000, kept=kept)
    seen: list[tuple[float, float]] = []

    def watched(counts: object, tolerance: float) -> float:
        gained, lost = counts.only_model, counts.only_reference  # type: ignore[attr-defined]
        seen.append(((gained - lost) / 1000, (gained + lost) / 1000))
        return 1.0

    assert stopped_at(training, p=watched, runs=200).tolist() == [4] * 200
    gap, discordance = np.mean(seen, axis=0)
    assert gap == pytest.approx(-0.1, abs=0.003)
    assert discordance == pytest.approx(0.3, abs=0.003)


def test_a_clear_loss_is_found_at_the_first_look() -> None:
    assert set(stopped_at(Training(-0.3, 0.3, looks=2, sets=3), runs=50).tolist()) == {1}


def test_no_cell_of_the_page_stops_more_often_than_five_percent() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| +0 ", "| -0.05 "))]
    assert len(rows) == (1 + 4) * len(LOOKS) * len(SETS)
    bounds = [float(cell.split("(")[1].rstrip(")")) for row in rows for cell in row[4:6]]
    assert max(bounds) < 0.05
    # And both rules that are not ours do.
    assert max(float(row[6]) for row in rows) > 0.08
    assert max(float(row[7]) for row in rows) > 0.5
