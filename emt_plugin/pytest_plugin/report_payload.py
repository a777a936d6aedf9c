"""What a test measured travels with its report, as JSON strings: xdist carries builtins only."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest

from emt_plugin.catalog import CatalogError, ImageSetSpec, ModelSpec
from emt_plugin.errors import CouldNotRun, ForgettingError, one_line
from emt_plugin.gate import TolerancesError
from emt_plugin.records import PairKey, PairRecord
from emt_plugin.records.record import Status
from emt_plugin.session.ending import status_of
from emt_plugin.settings import pair_key

MEASURED: pytest.StashKey[list[PairRecord]] = pytest.StashKey()
# Why a test can neither pass nor fail: other runs have the rest of the images.
AWAITED: pytest.StashKey[str] = pytest.StashKey()
PAYLOAD = "emt_pairs"
ENDED = "emt_ended"
COULD_NOT_RUN, SKIPPED = "COULD-NOT-RUN", "SKIPPED"


class SaidBelow:
    """Why a pair could not run, whole for files; on a terminal that is said once, under the table of all pairs."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def toterminal(self, writer: Any) -> None:
        """Point to where it is said."""
        writer.line('could not run: why is said under "forgetting" below')


def record(item: pytest.Item, pair: PairRecord) -> None:
    """Keep what an item measured until its next report."""
    item.stash.setdefault(MEASURED, []).append(pair)
    if pair.is_awaited:
        item.stash[AWAITED] = str(pair.reason)


def attach(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put the item's records on its report, and replace the traceback of a verdict or a user's mistake by its sentence."""
    error = call.excinfo.value if call.excinfo else None
    pairs = item.stash.get(MEASURED, [])
    item.stash[MEASURED] = []
    key = key_of(item)
    if report.failed and isinstance(error, ForgettingError):
        report.longrepr = str(error)
        setattr(report, ENDED, error.verdict)
    elif report.failed and isinstance(error, CouldNotRun):
        report.longrepr = f"could not run: {error}"
        setattr(report, ENDED, COULD_NOT_RUN)
    elif report.failed and isinstance(error, CatalogError | TolerancesError):
        report.longrepr = f"emt: {one_line(str(error))}"
        setattr(report, ENDED, COULD_NOT_RUN)
    elif report.skipped and not pairs and (report.when == "setup" or not key):
        setattr(report, ENDED, SKIPPED)
    if report.passed and report.when == "call" and AWAITED in item.stash:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {item.stash[AWAITED]}")
    # A pair is measured in the setup of its test: what fails later has its record already.
    if key and report.when == "setup" and not report.passed and key not in {pair.key for pair in pairs}:
        status: Status = "not-run" if report.skipped else status_of(error)
        pairs = [*pairs, PairRecord(key, status=status, reason=_reason(report, error))]
    if ended(report) == COULD_NOT_RUN and report.when == "call":
        # A test that asks for its pair itself has no setup of it. pytest and JUnit tell errors from failures by the phase
        # alone, and what could not run has not failed.
        report.when = "setup"
    if pairs:
        setattr(report, PAYLOAD, json.dumps([pair.to_json() for pair in pairs], allow_nan=False))


def _reason(report: pytest.TestReport, error: BaseException | None) -> str:
    if report.skipped:
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        return one_line(f"its test was skipped {said}")
    if isinstance(error, CouldNotRun):
        return str(error)
    return f"{type(error).__name__} in the test, see its traceback"


def pairs_of(report: Any) -> list[PairRecord]:
    """The records on a report."""
    return [PairRecord.from_json(text) for text in json.loads(getattr(report, PAYLOAD, "[]"))]


def ended(report: Any) -> str | None:
    """How a test that gates ended: a verdict other than PASS, ``COULD_NOT_RUN`` or ``SKIPPED``; None for the rest."""
    found = getattr(report, ENDED, None)
    return None if found is None else str(found)


def key_of(item: pytest.Item) -> PairKey | None:
    """The pair that an item was parametrized with; None where it was not."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if not {"emt_model", "emt_image_set"} <= set(parameters):
        return None
    model, image_set = parameters["emt_model"], parameters["emt_image_set"]
    return pair_key(model, image_set) if isinstance(model, ModelSpec) and isinstance(image_set, ImageSetSpec) else None


def model_by_model(items: list[pytest.Item]) -> list[pytest.Item]:
    """Items that have pairs, those of one model together, models and image sets in order of first appearance."""
    keys = {item: key_of(item) for item in items}
    models = list(dict.fromkeys((key.model, key.checkpoint) if key else None for key in keys.values()))
    image_sets = list(dict.fromkeys(key.image_set if key else None for key in keys.values()))

    def place(item: pytest.Item) -> tuple[int, int]:
        key = keys[item]
        model = (key.model, key.checkpoint) if key else None
        return models.index(model), image_sets.index(key.image_set if key else None)

    return sorted(items, key=place)


def pair_id_of(nodeid: str, known: Collection[str]) -> str | None:
    """The known pair id in a node id's brackets, where other parameters may stand beside it; None without one."""
    inside = nodeid.rpartition("::")[2].partition("[")[2].removesuffix("]")
    found = [pair for pair in known if f"-{pair}-" in f"-{inside}-"]
    return max(found, key=len, default=None)


def worse(one: PairRecord | None, other: PairRecord) -> PairRecord:
    """Of two records of one pair, the one that a release must not overlook."""
    if one is None:
        return other
    return other if _severity(other) >= _severity(one) else one


def _severity(pair: PairRecord) -> int:
    if pair.status != "measured" or pair.gating is None:
        return 3
    return {"FAIL": 2, "INCONCLUSIVE": 1}.get(pair.gating.verdict, 0)
