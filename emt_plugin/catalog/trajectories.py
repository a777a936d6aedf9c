"""Glob patterns become trajectories: a base model and its checkpoints, in order of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from emt_plugin.catalog.catalog import Catalog
from emt_plugin.catalog.checkpoints import CheckpointOnDisk, base_of, checkpoints_matching, readable_id
from emt_plugin.catalog.errors import CatalogError
from emt_plugin.catalog.specs import ModelSpec


@dataclass(frozen=True)
class StateSpec:
    """One checkpoint of a fine-tuning run.

    Attributes:
        model: what to load.
        step: optimiser steps since the base.
        epoch: passes over the training images; None where it is not recorded.
    """

    model: ModelSpec
    step: int
    epoch: float | None


@dataclass(frozen=True)
class TrajectorySpec:
    """A fine-tuning run.

    Attributes:
        name: the run's folder, unique among the runs of a session.
        base: the model that it started from.
        states: its checkpoints, in order of training.
        trained_on: ids of the image sets that it was trained on; empty where that is not recorded.
        method: ``linear`` or ``lora``; None where that is not recorded.
    """

    name: str
    base: ModelSpec
    states: tuple[StateSpec, ...]
    trained_on: tuple[str, ...]
    method: str | None


def trajectories(
    catalog: Catalog, base: ModelSpec, patterns: Sequence[str], trained_on: Sequence[str] = ()
) -> tuple[TrajectorySpec, ...]:
    """The fine-tuning runs whose checkpoints some patterns match.

    Args:
        catalog: where the bases that adapters name are looked up.
        base: what all of them started from.
        patterns: see ``checkpoints_matching``.
        trained_on: ids of image sets, instead of what the checkpoints say.

    Raises:
        CatalogError: a pattern matches no checkpoint, a checkpoint does not say after which step it was saved, or an adapter
            names another base.
    """
    runs = checkpoints_matching(patterns)
    for checkpoint in (checkpoint for found in runs.values() for checkpoint in found):
        refuse_other_base(catalog, base, checkpoint)
    names = _unique(list(runs))
    return tuple(_trajectory(name, base, runs[run], trained_on, len(runs) > 1) for run, name in zip(runs, names, strict=True))


def _trajectory(
    name: str, base: ModelSpec, found: Sequence[CheckpointOnDisk], trained_on: Sequence[str], several: bool
) -> TrajectorySpec:
    said = [checkpoint.provenance for checkpoint in found if checkpoint.provenance]
    ids = [f"{name}.{state}" if several else state for state in _unique([str(checkpoint.folder) for checkpoint in found])]
    states = tuple(
        StateSpec(state_of(base, checkpoint, state), checkpoint.step, checkpoint.epoch)
        for checkpoint, state in zip(found, ids, strict=True)
    )
    return TrajectorySpec(
        name=name,
        base=base,
        states=states,
        trained_on=tuple(trained_on)
        or tuple(dict.fromkeys(learned for provenance in said for learned in provenance.trained_on)),
        method=said[0].method if said else None,
    )


def refuse_other_base(catalog: Catalog, base: ModelSpec, checkpoint: CheckpointOnDisk) -> None:
    """Refuse an adapter that names another base; one with a hash of its base's weights is checked by that when it is loaded."""
    if not checkpoint.adapter or checkpoint.provenance:
        return
    try:
        named = base_of(checkpoint.folder)
    except CatalogError:
        return
    source = catalog.known_source(named)
    # A local copy of a hub's model is the same model by another name.
    alike = source is not None and Path(source).is_dir() == Path(base.source).is_dir()
    if source and alike and Path(source).resolve() != Path(base.source).resolve():
        raise CatalogError(
            f"the adapter {checkpoint.folder} was trained on {named}, not on {base.name}: name its own base with --model"
        )


def state_of(base: ModelSpec, checkpoint: CheckpointOnDisk, state: str) -> ModelSpec:
    """What to load for a checkpoint of a base; ``state`` is what that state is called."""
    folder = str(checkpoint.folder)
    spec = replace(base, checkpoint=state)
    if not checkpoint.adapter:
        return replace(spec, source=folder, revision=None)
    known = checkpoint.provenance
    return replace(spec, adapter=folder, adapter_base=known.base_weights if known else None)


def _unique(folders: Sequence[str]) -> list[str]:
    names = [readable_id(Path(folder).name) for folder in folders]
    return [
        f"{name}-{sha256(folder.encode()).hexdigest()[:6]}" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]
