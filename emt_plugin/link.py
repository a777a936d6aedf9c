"""What a test measured travels with its report, as JSON strings: xdist carries builtins only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from emt_plugin.errors import CouldNotRun, ForgettingError
from emt_plugin.records import PairKey, PairRecord

MEASURED: pytest.StashKey[list[PairRecord]] = pytest.StashKey()
PAYLOAD = "emt_pairs"
EXPECTED = "emt_expected"


def record(item: pytest.Item, pair: PairRecord) -> None:
    """Keep what an item measured until its next report."""
    item.stash.setdefault(MEASURED, []).append(pair)


def attach(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put the item's records on its report, and replace the traceback of a verdict or a user's mistake by its sentence."""
    error = call.excinfo.value if call.excinfo else None
    pairs = item.stash.get(MEASURED, [])
    key = key_of(item)
    expected = isinstance(error, CouldNotRun | ForgettingError)
    if report.failed and expected:
        report.longrepr = f"{'' if isinstance(error, ForgettingError) else 'could not run: '}{error}"
        setattr(report, EXPECTED, True)
    if report.failed and key and not isinstance(error, ForgettingError) and key not in {pair.key for pair in pairs}:
        reason = str(error) if expected else f"{type(error).__name__} in the test, see its traceback"
        pairs = [*pairs, PairRecord(key, status="could-not-run", reason=reason)]
    if pairs:
        setattr(report, PAYLOAD, json.dumps([pair.to_json() for pair in pairs], allow_nan=False))
        item.stash[MEASURED] = []


def pairs_of(report: Any) -> list[PairRecord]:
    """The records on a report."""
    return [PairRecord.from_json(text) for text in json.loads(getattr(report, PAYLOAD, "[]"))]


def was_expected(report: Any) -> bool:
    """Whether a failure is a verdict or a pair that could not run, rather than an ordinary failure."""
    return bool(getattr(report, EXPECTED, False))


def key_of(item: pytest.Item) -> PairKey | None:
    """The pair that an item was parametrized with; None where it was not."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if not {"emt_model", "emt_image_set"} <= set(parameters):
        return None
    return PairKey(parameters["emt_model"].id, parameters["emt_image_set"].id)


def model_by_model(items: list[pytest.Item]) -> list[pytest.Item]:
    """Items that have pairs, those of one model together, models and image sets in order of first appearance."""
    keys = {item: key for item in items if (key := key_of(item))}
    models = list(dict.fromkeys(key.model for key in keys.values()))
    return sorted(items, key=lambda item: models.index(keys[item].model))


def pair_id_of(nodeid: str) -> str | None:
    """The text between the brackets at the end of a node id; None without brackets."""
    _, bracket, tail = nodeid.partition("[")
    return tail.removesuffix("]") if bracket else None


def worse(one: PairRecord | None, other: PairRecord) -> PairRecord:
    """Of two records of one pair, the one that a release must not overlook."""
    if one is None or one.status != "measured":
        return other if one is None or other.status == "measured" else one
    if other.status != "measured":
        return one
    severity = {"FAIL": 2, "INCONCLUSIVE": 1}
    first, second = (severity.get(pair.gating.verdict if pair.gating else "", 0) for pair in (one, other))
    return other if second >= first else one
