"""The run record: everything a run measured, as data. ``run.json`` is this, and the report is drawn from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from emt_plugin.gate import Comparison, Reference, Tolerance
from emt_plugin.records.files import write_atomically

SCHEMA = 1
Status = Literal["measured", "could-not-run", "crashed", "not-run"]


class RecordError(ValueError):
    """A run record that cannot be read; the message says why."""


@dataclass(frozen=True)
class PairKey:
    """What identifies a result: never a node id."""

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
class ScoreSummary:
    """What one scorer made of a pair, as counts of images.

    Attributes:
        scorer: its name.
        version: its version.
        correct: images read as their own class.
        no_class: images read as no class or as several.
        well_formed: images whose answer is an opening, an article and a label, nothing else; None where it cannot say.
        kinds: wrong images by failure kind.
    """

    scorer: str
    version: str
    correct: int
    no_class: int
    well_formed: int | None
    kinds: Mapping[str, int]


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
class Timing:
    """Cost of one pair in one worker: process CPU-seconds, wall seconds, generated tokens."""

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
        model_facts: source, revision, content hash, dtype, device of the model.
        image_set_facts: source, split, and the content hash of the evaluated images.
        timing: cost; None without a measurement.
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
    model_facts: Mapping[str, Any] = field(default_factory=dict)
    image_set_facts: Mapping[str, Any] = field(default_factory=dict)
    timing: Timing | None = None

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

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` into ``folder``."""
        content = {"schema": SCHEMA, **_plain(asdict(self)), "pairs": [pair_to_dict(pair) for pair in self.pairs]}
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
            content = json.loads(path.read_text(encoding="utf-8"))
            schema = content.pop("schema")
            if schema != SCHEMA:
                raise ValueError(f"it has schema {schema}, and this version reads {SCHEMA}")
            pairs = tuple(pair_from_dict(pair) for pair in content.pop("pairs"))
            return cls(**content, pairs=pairs)
        except FileNotFoundError:
            raise RecordError(f"{folder} holds no run.json; name the folder of one run") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"cannot read {path}: {error}") from None


def pair_to_dict(pair: PairRecord) -> dict[str, Any]:
    """A pair as plain data: its key spread out, tolerances as ``tolerance`` and ``tolerance_from``."""
    content = _plain(asdict(pair))
    for comparison in content["comparisons"]:
        tolerance = comparison.pop("tolerance")
        comparison |= {"tolerance": tolerance.pop("value"), "tolerance_from": tolerance.pop("source"), **tolerance}
    return {**content.pop("key"), **content}


def pair_from_dict(content: Mapping[str, Any]) -> PairRecord:
    """The inverse of ``pair_to_dict``."""
    rest = dict(content)
    key = PairKey(**{name: rest.pop(name) for name in ("model", "image_set", "checkpoint")})
    return PairRecord(
        **{
            **rest,
            "key": key,
            "labels": tuple(rest["labels"]),
            "scores": tuple(ScoreSummary(**score) for score in rest["scores"]),
            "comparisons": tuple(_comparison(comparison) for comparison in rest["comparisons"]),
            "encoder": EncoderFacts(**rest["encoder"]) if rest["encoder"] else None,
            "timing": Timing(**rest["timing"]) if rest["timing"] else None,
        }
    )


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
