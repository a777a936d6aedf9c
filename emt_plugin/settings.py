"""One frozen Settings, built once from options, ini and catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emt_plugin.catalog import Catalog, ImageSetSpec, ModelSpec
from emt_plugin.gate import Tolerances
from emt_plugin.records import PairKey

DEFAULT_MODEL = "llava-mini"
DEFAULT_LIMIT = 1000
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Compute:
    """How models are run.

    Attributes:
        limit: images of each set.
        batch_size: images in one forward; None leaves it to the backend.
        dtype: None for float32 on the CPU and the checkpoint's own on a GPU.
        device: None for the GPU that is visible, else the CPU.
        memory: bytes that models on one device may take; None for what is free.
    """

    limit: int = DEFAULT_LIMIT
    batch_size: int | None = None
    dtype: str | None = None
    device: str | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run does.

    Attributes:
        catalog: where names are looked up.
        pairs: the model x image-set pairs, in order.
        reference: the MLLM to compare with; None for each model's own encoder.
        tolerances: policy and accepted losses.
        tolerances_file: where accepted losses are written.
        compute: how models are run.
        reports: folder in which runs land.
        update_tolerances: write accepted losses after the run.
        given: what the user wrote, for the record.
    """

    catalog: Catalog = field(default_factory=Catalog.load)
    pairs: tuple[tuple[ModelSpec, ImageSetSpec], ...] = ()
    reference: ModelSpec | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)
    tolerances_file: Path | None = None
    compute: Compute = field(default_factory=Compute)
    reports: Path = Path("reports")
    update_tolerances: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference_kind(self) -> str:
        """Kind of the reference that gates."""
        return "model" if self.reference else "encoder"

    @property
    def keys(self) -> tuple[PairKey, ...]:
        """Keys of all pairs, in order."""
        return tuple(PairKey(model.id, image_set.id) for model, image_set in self.pairs)

    def as_record(self) -> dict[str, Any]:
        """The settings as plain data, for the run record."""
        return {
            "models": list(dict.fromkeys(model.id for model, _ in self.pairs)),
            "image_sets": list(dict.fromkeys(image_set.id for _, image_set in self.pairs)),
            "reference": self.reference.id if self.reference else "encoder",
            "tolerances": self.tolerances.path.name if self.tolerances.path else None,
            "tolerance": self.tolerances.override,
            "scorers": ["answer"],
            "compute": asdict(self.compute),
            "given": dict(self.given),
        }
