"""The fast simulation of docs/gate.md stops where the verdicts' own whole numbers stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emt_plugin.gate.simulation import cell, planned, shuffled, stops
from emt_plugin.stats import SequentialGap

DOCUMENT = Path(__file__).parents[2] / "docs" / "gate.md"


@pytest.mark.parametrize(
    ("size", "discordance", "gap"), [(700, 0.2, -0.03), (300, 0.3, -0.08), (600, 0.1, 0.0), (260, 0.2, -0.05)]
)
def test_floats_stop_where_whole_numbers_do(size: int, discordance: float, gap: float) -> None:
    differences = shuffled(np.random.default_rng(5), size, discordance, gap, 60)
    assert set(differences.sum(axis=1)) == {round(size * gap)}
    above, below = stops(differences, 0.05)
    for row, passes, fails in zip(differences.tolist(), above.tolist(), below.tolist(), strict=True):
        watched = SequentialGap(size, 0.05)
        for difference in row:
            if watched.see(difference >= 0, difference <= 0):
                break
        side = "above" if passes < fails else "below" if fails < passes else None
        assert (watched.settled.side, watched.settled.stopped_at) == (side, min(passes, fails, size))


def test_errors_of_a_cell_stay_below_five_percent() -> None:
    found = cell(400, 0.2, -0.05, 0.05, sets=1000)
    assert found.bound("PASS") < 0.05
    assert found.bound("FAIL") < 0.05
    assert found.median == 400


def test_a_clear_verdict_takes_six_percent_of_ten_thousand_images() -> None:
    for gap, verdict in ((0.0, "PASS"), (-0.1, "FAIL")):
        found = cell(10_000, 0.2, gap, 0.05, sets=200)
        assert found.median <= 600
        assert found.rate(verdict) > 0.95


def test_planned_numbers_are_those_of_power_tables() -> None:
    """Tango's test at a tolerance of .05 and no gap needs 274, 507 and 748 images (exact power .8031 at 507)."""
    assert [planned(discordance, 0.0, 0.05) for discordance in (0.1, 0.2, 0.3)] == [274, 507, 748]


def test_no_cell_of_the_page_errs_more_often_than_five_percent() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("## Image by image")[1]
    bounds = [float(cell.split("(")[1].rstrip(")")) for line in text.splitlines() if "PASS 0." in line
              for part in line.strip("| ").split(" | ")[1:] for cell in part.split(", ")]  # fmt: skip
    assert len(bounds) == 24
    assert max(bounds) < 0.05
