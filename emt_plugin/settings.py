"""One frozen Settings, built once from options, ini and catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from emt_plugin.catalog import Catalog, ImageSetSpec, ModelSpec, TrajectorySpec
from emt_plugin.gate import Tolerances
from emt_plugin.records import PairKey, Shard
from emt_plugin.scoring.judge_address import JudgeAddress
from emt_plugin.store import DEFAULT_FOLDER, StoreMode

DEFAULT_MODEL = "llava-mini"
DEFAULT_LIMIT = 1000
DEFAULT_PROBE_IMAGES = 50
DEFAULT_STORE_BYTES = 20 * 10**9
ReportMode = Literal["single", "dir"]
REPORT_MODES: tuple[ReportMode, ...] = ("single", "dir")
GENERATIONS = ("own", "checkpoint")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Compute:
    """How models are run.

    Attributes:
        limit: images of each set.
        batch_size: images in one forward; None leaves it to the backend.
        dtype: None for float32 on the CPU and the checkpoint's own on a GPU.
        device: None for the GPU that is visible, else the CPU.
        half: 1 or 2 for one half of them, see ``ImageSet.half``; None for both.
        images: beginnings of the hashes of the only images; empty for the first ``limit``.
        repeat: how often each image is measured.
        early_stop: stop at the first image that settles the verdict.
        memory: bytes that models on one device may take; None for what is free.
        attention: implementation of attention; None for the model's own choice.
        generation: ``own`` for greedy answers by a configuration of our own, ``checkpoint`` to follow the checkpoint's.
        max_cost: US dollars that models behind endpoints may cost; None for any amount.
    """

    limit: int = DEFAULT_LIMIT
    half: int | None = None
    images: tuple[str, ...] = ()
    repeat: int = 1
    early_stop: bool = False
    batch_size: int | None = None
    dtype: str | None = None
    device: str | None = None
    memory: int | None = None
    attention: str | None = None
    generation: Literal["own", "checkpoint"] = "own"
    max_cost: float | None = None


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster that models run on, and what an actor takes of it.

    Attributes:
        address: of a cluster that exists; None to start one on this machine.
        actors: how many; None for one for each share of the GPUs, or one a node where there is none.
        gpus: of each actor; None for one where models run on a GPU.
        cpus: of each actor.
        wait_seconds: how long there may be no actor at all.
    """

    address: str | None = field(default=None, repr=False)
    actors: int | None = None
    gpus: float | None = None
    cpus: float = 1.0
    wait_seconds: float = 600.0


@dataclass(frozen=True)
class Scoring:
    """How observations are scored.

    Attributes:
        scorers: names, the one that gates first.
        rule: how ``likelihood`` sums over the tokens of a label.
        calibrated: whether ``likelihood`` takes off what a label gets under a mean-grey image.
        probe_images: training images of each class that a linear probe is fitted on at most; 0 for no probe.
        probe_gates: the vision probe is the reference that gates.
        judge: where the judge is asked; None where none is.
    """

    scorers: tuple[str, ...] = ("answer",)
    rule: Literal["sum", "mean"] = "sum"
    calibrated: bool = False
    probe_images: int = DEFAULT_PROBE_IMAGES
    probe_gates: bool = False
    judge: JudgeAddress | None = None

    def as_record(self) -> dict[str, Any]:
        """Plain data; nothing of the judge but its name."""
        return {
            "scorers": list(self.scorers),
            "likelihood": {"rule": self.rule, "calibrated": self.calibrated} if "likelihood" in self.scorers else None,
            "judge": f"{self.judge.model} at {self.judge.place}" if self.judge else None,
        }


@dataclass(frozen=True)
class Storing:
    """Where results are kept, and what use is made of them.

    Attributes:
        folder: the store's.
        mode: ``use``, ``refresh`` or ``off``.
        most_bytes: what vision features may take.
    """

    folder: Path = Path(DEFAULT_FOLDER)
    mode: StoreMode = "use"
    most_bytes: int = DEFAULT_STORE_BYTES


@dataclass(frozen=True)
class Reporting:
    """What a run is set beside, and how it is shown.

    Attributes:
        folder: in which each run gets its own.
        mode: ``single`` for one file, ``dir`` for a page with assets beside it.
        compare: folder of an earlier run to compare with.
        history: file that each run appends its lines to.
    """

    folder: Path = Path("reports")
    mode: ReportMode = "single"
    compare: Path | None = None
    history: Path | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run does.

    Attributes:
        catalog: where names are looked up.
        pairs: the model x image-set pairs, in order.
        reference: the MLLM to compare with; None for each model's own encoder.
        trajectories: fine-tuning runs, all of one base, which is then the reference.
        tolerances: policy and accepted losses.
        tolerances_file: where accepted losses are written.
        compute: how models are run.
        scoring: how observations are scored.
        store: where results are kept.
        report: what the run is set beside, and how it is shown.
        shard: which part of the pairs this is, and all of them; None for all.
        cluster: where models run; None for the processes of this run.
        update_tolerances: write accepted losses after the run.
        given: what the user wrote, for the record.
        unasked: models that the catalog does not know and of which nobody said on which image sets.
    """

    catalog: Catalog = field(default_factory=Catalog.load)
    pairs: tuple[tuple[ModelSpec, ImageSetSpec], ...] = ()
    reference: ModelSpec | None = None
    trajectories: tuple[TrajectorySpec, ...] = ()
    tolerances: Tolerances = field(default_factory=Tolerances)
    tolerances_file: Path | None = None
    compute: Compute = field(default_factory=Compute)
    scoring: Scoring = field(default_factory=Scoring)
    store: Storing = field(default_factory=lambda: Storing(mode="off"))
    report: Reporting = field(default_factory=Reporting)
    shard: Shard | None = None
    cluster: Cluster | None = None
    update_tolerances: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    unasked: tuple[ModelSpec, ...] = ()

    def reference_kind(self, model: ModelSpec) -> str:
        """Kind of the reference that gates a model: what the user asked for, else what the catalog says of the model."""
        if self.trajectories:
            return "checkpoint"
        if self.scoring.probe_gates:
            return "probe"
        return "model" if self.reference else model.reference

    def probes(self, model: ModelSpec) -> bool:
        """Whether linear probes are fitted on a model's features."""
        return bool(self.scoring.probe_images) and (
            "likelihood" in self.scoring.scorers or self.reference_kind(model) == "probe"
        )

    def probed_by_catalog(self, model: ModelSpec) -> bool:
        """Whether a model is compared with a probe because the catalog says so and nobody said anything."""
        return self.reference_kind(model) == "probe" and not self.scoring.probe_gates

    @property
    def keys(self) -> tuple[PairKey, ...]:
        """Keys of all pairs, in order."""
        return tuple(pair_key(model, image_set) for model, image_set in self.pairs)

    def as_record(self) -> dict[str, Any]:
        """The settings as plain data, for the run record: the reference that was asked for, and the catalog's exceptions."""
        asked = "probe" if self.scoring.probe_gates else "encoder"
        return {
            "models": list(dict.fromkeys(model.id for model, _ in self.pairs)),
            "checkpoints": [state.model.checkpoint for run in self.trajectories for state in run.states],
            "image_sets": list(dict.fromkeys(image_set.id for _, image_set in self.pairs)),
            "reference": self.reference.id if self.reference else asked,
            "probed_by_catalog": list(dict.fromkeys(model.id for model, _ in self.pairs if self.probed_by_catalog(model))),
            "tolerances": self.tolerances.path.name if self.tolerances.path else None,
            "tolerance": self.tolerances.override,
            **self.scoring.as_record(),
            "probe_images": self.scoring.probe_images if any(self.probes(model) for model, _ in self.pairs) else None,
            "compute": asdict(self.compute),
            "store": self.store.mode,
            "given": dict(self.given),
        }


def pair_key(model: ModelSpec, image_set: ImageSetSpec) -> PairKey:
    """What identifies the result of a model on an image set."""
    return PairKey(model.id, image_set.id, model.checkpoint)
