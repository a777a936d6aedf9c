"""The JSON Schema of run.json, by an independent validator: what is written fits it, and what is broken does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from emt_plugin.analysis import Decision, Keep, Loss, Mending, Step, Trajectory
from emt_plugin.analysis.trajectory import ClassLoss
from emt_plugin.cli import main
from emt_plugin.gate import Sequential, Tolerance
from emt_plugin.records import (
    Against,
    Cost,
    Difference,
    PairChange,
    PairKey,
    PairRecord,
    Part,
    Repeat,
    Replay,
    RunChanges,
    RunRecord,
    Shard,
    Trend,
    TrendPoint,
)
from emt_plugin.records.schema import run_schema, schema_text
from tests.unit.test_records import make_pair, make_run
from tests.unit.test_trajectory_report import made

COMMITTED = Path(__file__).parents[2] / "docs" / "run.schema.json"
REWRITE = "emt schema --write docs/run.schema.json"


def full_pair() -> PairRecord:
    pair = make_pair(60, 30)
    tolerance = Tolerance(0.1, "tolerances.toml", 0.05, True, "run-0", "2026-01-01", "0123456789abcdef")
    comparison = replace(pair.comparisons[0], tolerance=tolerance, p_holm=0.25, n_needed=4000, chance=0.1)
    comparison = replace(comparison, sequential=Sequential(90, 1000, beats_chance=False))
    return replace(
        pair,
        key=PairKey("model", "images", "checkpoint-2"),
        reason="said beside it",
        scores=(replace(pair.scores[0], facts={"endpoint": "here"}),),
        comparisons=(comparison,),
        steps=(Step("encoder", 90, note="all"), Step("answer", 60, -0.3, -0.4, -0.2, "fewer")),
        largest_loss=Loss("encoder", "answer", -0.3, -0.4, -0.2, "encoder", "answer", -0.3),
        replay=Replay(40, 60, "2026-01-01T00:00:00+00:00"),
        repeat=Repeat(2, 100, 3, 1, 0.01, 0.002, 0.04, (60, 61)),
        measurement="0123456789abcdef",
        cost=Cost(70, 10, 900, 80, 0.25),
        part=Part(1, 2, 200, "0123456789abcdef", (Against("answer", comparison.reference, tolerance),), 0, "fitted on 9"),
    )


def full_trajectory() -> Trajectory:
    found = made()
    # No trajectory has all of these at once.
    gone = (ClassLoss("a", 9, 8, 2),)
    states = tuple(
        replace(
            state,
            checkpoint=state.checkpoint or "base",
            alpha=0.5,
            domain=found.backward_transfer,
            elsewhere=found.backward_transfer,
            cells=tuple(
                replace(cell, change=found.backward_transfer, named={"other": 1}, well_formed=9, gone=gone)
                for cell in state.cells
            ),
        )
        for state in found.states
    )
    change = found.backward_transfer
    assert change is not None
    mending = Mending("run/checkpoint-8", 0.5, True, (Decision(0.5, "other", 100, change, 0.05, "PASS"),))
    keep = Keep(1, 2, {"other": "FAIL"}, (3,))
    return replace(found, states=states, keep=keep, unmeasured=("checkpoint-9",), mending=mending)


def full_run() -> RunRecord:
    pair = full_pair()
    difference = Difference("torch", "2.11", "2.13")
    change = PairChange(pair.key.id, pair.gating, "on 50 of 100 images", 0.5, 1.0, (difference,))
    point = TrendPoint("run", "2026-01-01", "measured", "FAIL", 100, 0.6, 0.9, -0.3, -0.4, -0.2, 0.05, ("torch",), "1.2")
    return replace(
        make_run(pair, complete=False, code=1),
        reason="one sentence",
        trajectories=(full_trajectory(),),
        changes=(RunChanges("last night", "run-0", "2025-12-31T00:00:00+00:00", (change,)),),
        trends=(Trend(pair.key.id, (point,)),),
        shard=Shard(1, 2, (pair.key.id, "model/others"), "images", 1),
        merged_from=("run-1", "run-2"),
        environment={"git": {"commit": "abc"}},
    )


def written(run: RunRecord, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run.write(folder).read_text(encoding="utf-8"))
    return content


def nothing_in(content: Any, place: str = "run") -> list[str]:
    """Where a record has None or nothing."""
    if isinstance(content, dict | list) and content:
        named = content.items() if isinstance(content, dict) else enumerate(content)
        return [found for name, inner in named for found in nothing_in(inner, f"{place}.{name}")]
    return [place] if content is None or content in ([], {}) else []


def test_the_committed_copy_is_the_generated_one() -> None:
    # A bare comparison: of two texts of a thousand lines, pytest would show the difference for a minute.
    same = COMMITTED.read_text(encoding="utf-8") == schema_text()
    assert same, f"the run record has changed: rewrite its schema with `{REWRITE}`"


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == run_schema()
    assert main(["schema", "--write", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text(encoding="utf-8") == schema_text()
    assert main(["schema", "--write", str(tmp_path / "nowhere" / "schema.json")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_it_is_a_schema_and_says_of_every_field_what_it_is() -> None:
    schema = run_schema()
    Draft202012Validator.check_schema(schema)
    undescribed = [
        f"{name}.{field}"
        for name, found in {"RunRecord": schema, **schema["$defs"]}.items()
        for field, content in found["properties"].items()
        if not content.get("description")
    ]
    assert undescribed == [], "say what they are under `Attributes:` of the dataclass's docstring"
    assert schema["$defs"]["EncoderFacts"]["properties"]["own"] == {
        "type": "boolean",
        "description": "the weights are equal in the coarser dtype.",
    }
    assert schema["$defs"]["PairRecord"]["properties"]["checkpoint"] == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "description": "id of a state of a fine-tuning run; null for a model by itself.",
    }


def test_a_record_with_everything_in_it_fits(tmp_path: Path) -> None:
    run = full_run()
    content = written(run, tmp_path)
    assert nothing_in(content) == []
    Draft202012Validator(run_schema()).validate(content)
    assert RunRecord.read(tmp_path) == run


def test_a_record_with_next_to_nothing_in_it_fits(tmp_path: Path) -> None:
    gone = PairRecord(PairKey("model", "images"))
    stopped = replace(make_run(gone, complete=False, code=2), changes=(RunChanges("x", "y", "z", (PairChange("p", None),)),))
    for run in (stopped, make_run(make_pair()), replace(make_run(), trajectories=(made((), 1), made()))):
        Draft202012Validator(run_schema()).validate(written(run, tmp_path))


# What a record holds as it was found, under keys that no dataclass knows.
FREE = {"settings", "environment", "facts", "model_facts", "image_set_facts", "named", "because"}


def objects_in(content: Any, place: str = "run") -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a record that have their fields by a dataclass; of each list, in its first item."""
    if isinstance(content, dict):
        yield place, content
        for name in [name for name in content if name not in FREE]:
            yield from objects_in(content[name], f"{place}.{name}")
    elif isinstance(content, list) and content:
        yield from objects_in(content[0], f"{place}.0")


def test_no_field_may_be_missing_anywhere_and_none_may_be_added(tmp_path: Path) -> None:
    content = written(full_run(), tmp_path)
    validator = Draft202012Validator(run_schema())
    passed = []
    for place, found in list(objects_in(content)):
        for name in list(found):
            value = found.pop(name)
            passed += [f"{place} without {name}"] * validator.is_valid(content)
            found[name] = value
        found["more"] = 1
        passed += [f"{place} with more"] * validator.is_valid(content)
        del found["more"]
    assert passed == []
    assert {"run", "run.pairs.0.comparisons.0.reference", "run.trajectories.0.states.0.cells.0.gone.0",
            "run.changes.0.pairs.0.differences.0", "run.trends.0.points.0", "run.shard", "run.pairs.0.repeat",
            "run.pairs.0.part.against.0.reference",
            } <= {place for place, _ in objects_in(content)}  # fmt: skip
    validator.validate(content)


def pair_of(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["pairs"][0]
    return found


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field of the run is missing": (lambda run: run.pop("complete"), "'complete' is a required property"),
    "another schema": (lambda run: run.update(schema=4), "6 was expected"),
    "a field of a pair is missing": (lambda run: pair_of(run).pop("n_split"), "'n_split' is a required property"),
    "a key that is not spread out": (lambda run: pair_of(run).update(key={"model": "m"}), "'key' was unexpected"),
    "an extra key": (lambda run: pair_of(run)["scores"][0].update(score=1), "'score' was unexpected"),
    "a verdict of another word": (
        lambda run: pair_of(run)["comparisons"][0].update(verdict="FAILED"),
        "'FAILED' is not one of ['PASS', 'FAIL', 'INCONCLUSIVE']",
    ),
    "a status of another word": (lambda run: pair_of(run).update(status="ok"), "'ok' is not one of ['measured'"),
    "a tolerance that is not flattened": (
        lambda run: pair_of(run)["comparisons"][0].update(tolerance={"value": 0.05}),
        "{'value': 0.05} is not of type 'number'",
    ),
    "half an image": (lambda run: pair_of(run).update(n=99.5), "99.5 is not of type 'integer'"),
    "a label that is no string": (lambda run: pair_of(run)["labels"].append(7), "7 is not of type 'string'"),
    "a count of answers that is a word": (
        lambda run: run["trajectories"][0]["states"][0]["cells"][0]["named"].update(other="one"),
        "'one' is not of type 'integer'",
    ),
    "a field of a change against an earlier run is missing": (
        lambda run: run["changes"][0]["pairs"][0].pop("p_holm"),
        "'p_holm' is a required property",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_record_is_refused(tmp_path: Path, how: str) -> None:
    content = written(full_run(), tmp_path)
    spoil, says = BROKEN[how]
    spoil(content)
    (error,) = Draft202012Validator(run_schema()).iter_errors(content)
    assert says in error.message
