"""The run record: everything a run measured, as data. ``run.json`` is this, and the report is drawn from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from emt_plugin.analysis import Change, Keep, Loss, Step, Trajectory
from emt_plugin.analysis.trajectory import Cell, ClassLoss, State
from emt_plugin.gate import Comparison, Reference, Tolerance
from emt_plugin.records.changes import Difference, PairChange, Repeat, RunChanges, Shard, Trend, TrendPoint
from emt_plugin.stats import LEVEL, wilson_interval
from emt_plugin.store.files import write_atomically

SCHEMA = 5
Status = Literal["measured", "could-not-run", "crashed", "not-run"]


class RecordError(ValueError):
    """A run record that cannot be read; the message says why."""


@dataclass(frozen=True)
class PairKey:
    """What identifies a result: never a node id.

    Attributes:
        model: id of the model.
        image_set: id of the image set.
        checkpoint: id of a state of a fine-tuning run; None for a model by itself.
    """

    model: str
    image_set: str
    checkpoint: str | None = None

    @property
    def id(self) -> str:
        """``model/image_set``, with ``@checkpoint`` after the model where there is one."""
        return f"{self.model}{'@' + self.checkpoint if self.checkpoint else ''}/{self.image_set}"

    @property
    def file_name(self) -> str:
        """The id as a file name."""
        return self.id.replace("/", "__")


@dataclass(frozen=True)
class KindRate:
    """How often one failure kind occurs among all images of a pair.

    Attributes:
        kind: the failure kind.
        count: images.
        rate: their share, a fraction.
        low: lower end of the share's two-sided 90 % interval (Wilson 1927).
        high: its upper end.
    """

    kind: str
    count: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class ScoreSummary:
    """What one scorer made of a pair, as counts of images.

    Attributes:
        scorer: its name.
        version: its version.
        correct: images read as their own class.
        no_class: images read as no class or as several; None for a scorer that names no class by design.
        well_formed: images whose answer is an opening, an article and a label, nothing else; None where it cannot say.
        kinds: wrong images by failure kind, the most frequent first.
        facts: what a reader should know of the scorer's part in this run.
    """

    scorer: str
    version: str
    correct: int
    no_class: int | None
    well_formed: int | None
    kinds: tuple[KindRate, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderFacts:
    """The vision encoder that a model was compared with.

    Attributes:
        id: what it is called.
        found_by: ``catalog``, ``--emt-encoder`` or ``tower shape``.
        tower: how the model's tower compares with it, in words.
        own: the weights are equal in the coarser dtype.
        correct: images that it classifies right.
    """

    id: str
    found_by: str
    tower: str
    own: bool
    correct: int


@dataclass(frozen=True)
class Replay:
    """How much of a pair came from the store.

    Attributes:
        replayed: images of which nothing was computed in this run.
        computed: the others.
        since: when the oldest of what was replayed was computed, ISO 8601; None where nothing was.
    """

    replayed: int
    computed: int
    since: str | None = None


@dataclass(frozen=True)
class Timing:
    """Cost of one pair in one worker.

    Attributes:
        cpu_seconds: of the process.
        wall_seconds: from its first image to its last.
        new_tokens: generated.
    """

    cpu_seconds: float
    wall_seconds: float
    new_tokens: int


@dataclass(frozen=True)
class PairRecord:
    """One model on one image set.

    Attributes:
        key: model, checkpoint and image set.
        prompt: the question with the label names.
        status: whether there is a measurement.
        reason: why there is none, one sentence.
        n: images measured.
        n_split: images in the split.
        labels: label names.
        scores: one for each scorer, the one that gates first.
        comparisons: one for each reference.
        gate: index of the comparison that gates; None where there is no verdict.
        encoder: facts about the encoder; None if unknown.
        steps: accuracy from the encoder to the answer, step by step; what was not measured is left out.
        largest_loss: between which of them most is lost; None where nothing is.
        model_facts: source, revision, content hash, dtype, device of the model.
        image_set_facts: source and its kind, configuration, split, and the content hash of the evaluated images.
        replay: how much came from the store; None without a measurement.
        timing: cost; None without a measurement.
        repeat: the same images measured again; None without ``--emt-repeat``.
        measurement: which measurement of the session this is: its rows are of the same; None where none was begun.
    """

    key: PairKey
    prompt: str = ""
    status: Status = "not-run"
    reason: str | None = None
    n: int = 0
    n_split: int = 0
    labels: tuple[str, ...] = ()
    scores: tuple[ScoreSummary, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    gate: int | None = None
    encoder: EncoderFacts | None = None
    steps: tuple[Step, ...] = ()
    largest_loss: Loss | None = None
    model_facts: Mapping[str, Any] = field(default_factory=dict)
    image_set_facts: Mapping[str, Any] = field(default_factory=dict)
    replay: Replay | None = None
    timing: Timing | None = None
    repeat: Repeat | None = None
    measurement: str | None = None

    def score(self, scorer: str) -> ScoreSummary | None:
        """What one scorer made of the pair."""
        return next((score for score in self.scores if score.scorer == scorer), None)

    @property
    def gating(self) -> Comparison | None:
        """The comparison that gates."""
        return None if self.gate is None else self.comparisons[self.gate]

    def to_json(self) -> str:
        """One line of JSON, plain data only."""
        return json.dumps(pair_to_dict(self), allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PairRecord:
        """The inverse of ``to_json``."""
        return pair_from_dict(json.loads(text))


@dataclass(frozen=True)
class RunRecord:
    """A whole run.

    Attributes:
        run_id: name of the run and of its folder.
        started: ISO 8601, UTC.
        seconds: wall seconds.
        complete: every selected pair has a measurement and nothing went wrong inside.
        exit_code: what the run exits with.
        reason: why the run is not complete, one sentence.
        settings: the settings in force.
        environment: versions, machine, git state.
        pairs: in the order they were selected.
        trajectories: fine-tuning runs, state by state; none without ``--emt-checkpoint``.
        changes: this run against earlier ones.
        trends: each pair over the runs of the history; none without ``--emt-history``.
        shard: which part of a larger run this is; None for a whole one.
        merged_from: ids of the runs that it was joined from.
    """

    run_id: str
    started: str
    seconds: float
    complete: bool
    exit_code: int
    reason: str | None
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    pairs: tuple[PairRecord, ...]
    trajectories: tuple[Trajectory, ...] = ()
    changes: tuple[RunChanges, ...] = ()
    trends: tuple[Trend, ...] = ()
    shard: Shard | None = None
    merged_from: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` into ``folder``."""
        content = {
            "schema": SCHEMA,
            **_plain(asdict(self)),
            "pairs": [pair_to_dict(pair) for pair in self.pairs],
            "changes": [_changes_to_dict(changes) for changes in self.changes],
        }
        path = folder / "run.json"
        write_atomically(path, (json.dumps(content, allow_nan=False, indent=1) + "\n").encode())
        return path

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read ``run.json`` from ``folder``.

        Raises:
            RecordError: there is none, or this version cannot read it.
        """
        path = folder / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
            schema = content.pop("schema")
            if schema not in range(1, SCHEMA + 1):
                raise ValueError(f"it has schema {schema}, and this version reads 1 to {SCHEMA}")
            pairs = tuple(pair_from_dict(upgraded(pair, schema)) for pair in content.pop("pairs"))
            runs = tuple(_trajectory(run) for run in content.pop("trajectories", ()))
            changes = tuple(_changes(entry) for entry in content.pop("changes", ()))
            trends = tuple(_trend(entry) for entry in content.pop("trends", ()))
            shard = content.pop("shard", None)
            merged = tuple(content.pop("merged_from", ()))
            return cls(
                **content,
                pairs=pairs,
                trajectories=runs,
                changes=changes,
                trends=trends,
                shard=Shard(**{**shard, "pairs": tuple(shard["pairs"])}) if shard else None,
                merged_from=merged,
            )
        except FileNotFoundError:
            raise RecordError(f"{folder} holds no run.json; name the folder of one run") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise RecordError(f"cannot read {path}: {error}") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def kind_rates(kinds: Mapping[str, int], n: int) -> tuple[KindRate, ...]:
    """Failure kinds of ``n`` images with their rates and intervals, the most frequent first."""
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    return tuple(KindRate(kind, count, count / n, *wilson_interval(count, n, LEVEL)) for kind, count in ordered if n)


def upgraded(pair: Mapping[str, Any], schema: int) -> dict[str, Any]:
    """A pair of an earlier schema as one of this."""
    found = dict(pair)
    if schema < 2:
        rates = [[asdict(rate) for rate in kind_rates(score["kinds"], found["n"])] for score in found["scores"]]
        found["scores"] = [{**score, "kinds": kinds} for score, kinds in zip(found["scores"], rates, strict=True)]
    return found


def pair_to_dict(pair: PairRecord) -> dict[str, Any]:
    """A pair as plain data: its key spread out, tolerances as ``tolerance`` and ``tolerance_from``."""
    content = _plain(asdict(pair))
    for comparison in content["comparisons"]:
        _flatten_tolerance(comparison)
    return {**content.pop("key"), **content}


def _flatten_tolerance(comparison: dict[str, Any]) -> None:
    tolerance = comparison.pop("tolerance")
    comparison |= {"tolerance": tolerance.pop("value"), "tolerance_from": tolerance.pop("source"), **tolerance}


def _changes_to_dict(changes: RunChanges) -> dict[str, Any]:
    content: dict[str, Any] = _plain(asdict(changes))
    for pair in content["pairs"]:
        if pair["comparison"]:
            _flatten_tolerance(pair["comparison"])
    return content


def pair_from_dict(content: Mapping[str, Any]) -> PairRecord:
    """The inverse of ``pair_to_dict``."""
    rest = dict(content)
    key = PairKey(**{name: rest.pop(name) for name in ("model", "image_set", "checkpoint")})
    return PairRecord(
        **{
            **rest,
            "key": key,
            "labels": tuple(rest["labels"]),
            "scores": tuple(_score(score) for score in rest["scores"]),
            "comparisons": tuple(_comparison(comparison) for comparison in rest["comparisons"]),
            "encoder": EncoderFacts(**rest["encoder"]) if rest["encoder"] else None,
            "steps": tuple(Step(**step) for step in rest.get("steps", ())),
            "largest_loss": Loss(**rest["largest_loss"]) if rest.get("largest_loss") else None,
            "replay": Replay(**rest["replay"]) if rest.get("replay") else None,
            "timing": Timing(**rest["timing"]) if rest["timing"] else None,
            "repeat": _repeat(rest.get("repeat")),
        }
    )


def _trajectory(content: Mapping[str, Any]) -> Trajectory:
    changes = ("backward_transfer", "forgetting_from_first", "forgetting_from_max")
    return Trajectory(
        **{
            **content,
            "trained_on": tuple(content["trained_on"]),
            "image_sets": tuple(content["image_sets"]),
            "states": tuple(_state(state) for state in content["states"]),
            "keep": _keep(content["keep"]),
            "unmeasured": tuple(content["unmeasured"]),
            **{name: _change(content[name]) for name in changes},
        }
    )


def _keep(content: Mapping[str, Any] | None) -> Keep | None:
    return Keep(**{**content, "recovered": tuple(content["recovered"])}) if content else None


def _state(content: Mapping[str, Any]) -> State:
    changes = {name: _change(content[name]) for name in ("encoder_gap", "domain", "elsewhere")}
    return State(**{**content, **changes, "cells": tuple(_cell(cell) for cell in content["cells"])})


def _cell(content: Mapping[str, Any]) -> Cell:
    gone = tuple(ClassLoss(**loss) for loss in content["gone"])
    changes = {name: _change(content[name]) for name in ("change", "encoder_gap")}
    return Cell(**{**content, **changes, "gone": gone})


def _change(content: Mapping[str, Any] | None) -> Change | None:
    return Change(**content) if content else None


def _repeat(content: Mapping[str, Any] | None) -> Repeat | None:
    return Repeat(**{**content, "correct": tuple(content["correct"])}) if content else None


def _changes(content: Mapping[str, Any]) -> RunChanges:
    return RunChanges(**{**content, "pairs": tuple(_pair_change(pair) for pair in content["pairs"])})


def _pair_change(content: Mapping[str, Any]) -> PairChange:
    found = content["comparison"]
    differences = tuple(Difference(**difference) for difference in content["differences"])
    return PairChange(**{**content, "comparison": _comparison(found) if found else None, "differences": differences})


def _trend(content: Mapping[str, Any]) -> Trend:
    points = tuple(TrendPoint(**{**point, "changed": tuple(point["changed"])}) for point in content["points"])
    return Trend(content["pair"], points)


def _score(content: Mapping[str, Any]) -> ScoreSummary:
    return ScoreSummary(**{**content, "kinds": tuple(KindRate(**kind) for kind in content["kinds"])})


def _comparison(content: Mapping[str, Any]) -> Comparison:
    rest = dict(content)
    tolerance = Tolerance(
        value=rest.pop("tolerance"),
        source=rest.pop("tolerance_from"),
        **{name: rest.pop(name) for name in ("policy", "accepted", "accepted_in", "accepted_on", "accepted_images")},
    )
    return Comparison(**{**rest, "reference": Reference(**rest["reference"]), "tolerance": tolerance})


def _plain(value: Any) -> Any:
    """Tuples as lists, mappings as dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
