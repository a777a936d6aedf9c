"""The badge of a run: what it says by hand, and that it is what shields.io documents for an endpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emt_plugin.gate import Tolerance
from emt_plugin.records import PairKey, PairRecord, RecordError, RunRecord
from emt_plugin.report.writers.badge import write_badge
from tests.unit.test_records import make_pair, make_run

# What shields.io documents for an endpoint, with its type, and the names that it has for colours.
DOCUMENTED = {"schemaVersion": int, "label": str, "message": str, "color": str, "labelColor": str, "isError": bool,
              "namedLogo": str, "logoSvg": str, "logoColor": str, "logoSize": str, "style": str}  # fmt: skip
COLOURS = {"brightgreen", "green", "yellow", "yellowgreen", "orange", "red", "blue", "grey", "lightgrey"}

PASS, OPEN, FAIL = make_pair(90, 0), make_pair(80, 6), make_pair(60, 30)
WORSE = make_pair(50, 40)
GONE = PairRecord(PairKey("model", "gone"), status="crashed", reason="its worker crashed")


def by_accepted_loss() -> PairRecord:
    tolerance = Tolerance(0.4, "accepted loss of model/images", 0.05, accepted=True)
    return replace(FAIL, comparisons=(replace(FAIL.comparisons[0], tolerance=tolerance, verdict="PASS"),))


@pytest.mark.parametrize(
    ("run", "message", "colour", "is_error"),
    [
        (make_run(PASS, PASS, PASS, PASS), "PASS 4 of 4", "brightgreen", False),
        (make_run(PASS, by_accepted_loss()), "PASS 2 of 2, 1 by an accepted loss", "brightgreen", False),
        (make_run(PASS, OPEN, OPEN, PASS, code=7), "INCONCLUSIVE 2 of 4", "yellow", True),
        (make_run(FAIL, PASS, PASS, PASS, code=1), "FAIL 1 of 4 (−30.0 points)", "red", True),
        (make_run(FAIL, PASS, WORSE, OPEN, code=1), "FAIL 2 of 4 (−40.0 points at worst)", "red", True),
        (make_run(GONE, PASS, PASS, PASS, complete=False, code=3), "INCOMPLETE 1 of 4", "lightgrey", True),
        (make_run(GONE, FAIL, PASS, PASS, complete=False, code=3), "INCOMPLETE 1 of 4, 1 FAIL", "lightgrey", True),
        (make_run(PASS, PASS, complete=False, code=2), "INCOMPLETE", "lightgrey", True),
        # An ordinary test failed beside the gate.
        (make_run(PASS, PASS, code=1), "PASS 2 of 2, exit code 1", "lightgrey", True),
    ],
    ids=["pass", "accepted", "open", "forgot", "forgot twice", "incomplete", "incomplete and forgot", "stopped", "other test"],
)
def test_what_it_says(tmp_path: Path, run: RunRecord, message: str, colour: str, is_error: bool) -> None:
    run.write(tmp_path)
    path = write_badge(tmp_path)
    assert path == tmp_path / "badge.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {
        "schemaVersion": 1,
        "label": "forgetting",
        "message": message,
        "color": colour,
        "isError": is_error,
    }
    assert all(type(value) is DOCUMENTED[name] for name, value in content.items())
    assert content["color"] in COLOURS


def test_without_a_record_there_is_no_badge(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no run\.json"):
        write_badge(tmp_path)
    assert not list(tmp_path.iterdir())
