"""The run record: everything a run measured, as data. ``run.json`` is this, and the report is drawn from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from emt_plugin.analysis import Loss, Step, Trajectory
from emt_plugin.gate import Comparison
from emt_plugin.records.changes import Repeat, RunChanges, Shard, Trend
from emt_plugin.records.parts import Part
from emt_plugin.records.typed import typed
from emt_plugin.stats import LEVEL, wilson_interval
from emt_plugin.store.files import write_atomically

SCHEMA = 6
# Of a pair and of a comparison, what ``run.json`` spreads out among the other fields, by the names that it has there.
KEY = ("model", "image_set", "checkpoint")
TOLERANCE = {
    "value": "tolerance", "source": "tolerance_from", "policy": "policy", "accepted": "accepted",
    "accepted_in": "accepted_in", "accepted_on": "accepted_on", "accepted_images": "accepted_images",
}  # fmt: skip
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
class Cost:
    """What models behind endpoints were asked for in one pair, references among them.

    Attributes:
        requests: sent, those that were sent again among them.
        retries: sent again.
        tokens_in: of questions with their images, as far as they were reported.
        tokens_out: of answers, as far as they were reported.
        money: US dollars by the catalog's prices; None where it has none.
    """

    requests: int
    retries: int
    tokens_in: int
    tokens_out: int
    money: float | None = None

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.requests + other.requests,
            self.retries + other.retries,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            None if self.money is None and other.money is None else (self.money or 0.0) + (other.money or 0.0),
        )

    def since(self, earlier: Cost) -> Cost:
        """What was added to an earlier state of the same count."""
        return Cost(
            self.requests - earlier.requests,
            self.retries - earlier.retries,
            self.tokens_in - earlier.tokens_in,
            self.tokens_out - earlier.tokens_out,
            None if self.money is None else self.money - (earlier.money or 0.0),
        )


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
        cost: of models behind endpoints; None without any.
        part: which of its images these are, where another run has the others; None where all are here.
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
    cost: Cost | None = None
    part: Part | None = None

    def score(self, scorer: str) -> ScoreSummary | None:
        """What one scorer made of the pair."""
        return next((score for score in self.scores if score.scorer == scorer), None)

    @property
    def gating(self) -> Comparison | None:
        """The comparison that gates."""
        return None if self.gate is None else self.comparisons[self.gate]

    @property
    def is_awaited(self) -> bool:
        """Whether all that it lacks for a verdict is the other parts of its images."""
        return self.status == "measured" and self.part is not None and self.part.gate is not None

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
            content["pairs"] = [_nested_pair(upgraded(pair, schema)) for pair in content["pairs"]]
            content["changes"] = [_nested_changes(changes) for changes in content.get("changes", ())]
            return typed(content, cls)
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
    for comparison in [*content["comparisons"], *(content["part"]["against"] if content["part"] else [])]:
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
    """The inverse of ``pair_to_dict``.

    Raises:
        ValueError: a field is missing or of another type.
    """
    return typed(_nested_pair(content), PairRecord)


def _nested_pair(content: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with its key and its tolerances in places of their own."""
    key = {name: content[name] for name in KEY if name in content}
    rest = {name: value for name, value in content.items() if name not in KEY}
    if rest.get("part"):
        rest["part"] = {**rest["part"], "against": [_nested_comparison(against) for against in rest["part"]["against"]]}
    return {**rest, "key": key, "comparisons": [_nested_comparison(comparison) for comparison in content["comparisons"]]}


def _nested_comparison(content: Mapping[str, Any]) -> dict[str, Any]:
    tolerance = {name: content[called] for name, called in TOLERANCE.items() if called in content}
    return {**{name: value for name, value in content.items() if name not in TOLERANCE.values()}, "tolerance": tolerance}


def _nested_changes(content: Mapping[str, Any]) -> dict[str, Any]:
    pairs = [
        {**pair, "comparison": _nested_comparison(pair["comparison"])} if pair["comparison"] else pair
        for pair in content["pairs"]
    ]
    return {**content, "pairs": pairs}


def _plain(value: Any) -> Any:
    """Tuples as lists, mappings as dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
