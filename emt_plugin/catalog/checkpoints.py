"""Checkpoints of a fine-tuning run on disk: which there are, after which step, and what they were trained from. No torch."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emt_plugin.catalog.errors import CatalogError

PROVENANCE = "emt.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TRAINER_STATE = "trainer_state.json"
ADAPTER_STEM = "adapter_model"
# Files of a whole model, safe or pickled; a trainer leaves other pickles beside either.
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model*.bin")


@dataclass(frozen=True)
class Provenance:
    """How a checkpoint came about; written beside it as ``emt.json``.

    Attributes:
        base: the base model's catalog name, hub id or folder name; never a path.
        base_weights: content hash of the base's weights.
        step: optimiser steps taken.
        epoch: passes over the training images, a fraction within one.
        method: ``linear`` or ``lora``.
        image_set: id of the image set that it was trained on.
        image_set_fingerprint: hash of its training images.
        settings: everything else that decides what was trained.
        loss: mean loss over the steps since the checkpoint before, in nats for each answer token.
        mended: of a state between the base and such a checkpoint: which, how it was chosen and what it promises.
    """

    base: str
    base_weights: str
    step: int
    epoch: float
    method: str
    image_set: str
    image_set_fingerprint: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss: float | None = None
    mended: Mapping[str, Any] | None = None

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Ids of the image sets that it was trained on."""
        said = (self.mended or {}).get("trained_on")
        return tuple(map(str, said)) if isinstance(said, list) else (self.image_set,)

    def to_json(self) -> str:
        """The content of ``emt.json``."""
        content = {"schema": 1, **asdict(self)}
        if self.mended is None:
            del content["mended"]
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True)
class CheckpointOnDisk:
    """One checkpoint.

    Attributes:
        folder: where it is.
        step: optimiser steps taken.
        epoch: passes over the training images; None where it does not say.
        adapter: it is a PEFT adapter rather than a whole model.
        provenance: how it came about; None where this project did not train it.
    """

    folder: Path
    step: int
    epoch: float | None
    adapter: bool
    provenance: Provenance | None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model: a config.json that strayed there makes it none."""
    return (folder / ADAPTER_CONFIG).is_file() and not has_model_weights(folder)


def has_model_weights(folder: Path) -> bool:
    """Whether a folder holds weights beside an adapter's."""
    found = (path for pattern in WEIGHTS for path in folder.glob(pattern))
    return any(not path.name.startswith(ADAPTER_STEM) for path in found)


def provenance_of(folder: Path) -> Provenance | None:
    """What ``emt.json`` says; None where there is none.

    Raises:
        CatalogError: it cannot be read.
    """
    path = folder / PROVENANCE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != 1:
            raise ValueError(f"it has schema {schema}, and this version reads 1")
        found = Provenance(**content)
        return Provenance(**{**asdict(found), "step": int(found.step), "epoch": float(found.epoch)})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CatalogError(f"cannot read {path}: {error}") from None


def base_of(folder: Path) -> str:
    """The base model that an adapter names: a catalog name, a hub id or a path.

    Raises:
        CatalogError: it names none.
    """
    known = provenance_of(folder)
    if known:
        return known.base
    try:
        named = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CatalogError(f"cannot read {folder / ADAPTER_CONFIG}: {error}") from None
    if not named:
        raise CatalogError(f"the adapter {folder} names no base model: evaluate it with --model BASE --checkpoint '{folder}'")
    return str(named)


def checkpoint_at(folder: Path) -> CheckpointOnDisk:
    """The checkpoint in a folder.

    Raises:
        CatalogError: there is none, or it does not say after which step it was saved.
    """
    adapter = is_adapter(folder)
    if not adapter and not (folder / "config.json").exists():
        raise CatalogError(f"{folder} is no checkpoint: it has neither {ADAPTER_CONFIG} nor config.json")
    known = provenance_of(folder)
    if known:
        return CheckpointOnDisk(folder, known.step, known.epoch, adapter, known)
    try:
        state = json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8"))
        epoch = state.get("epoch")
        return CheckpointOnDisk(folder, int(state["global_step"]), None if epoch is None else float(epoch), adapter, None)
    except FileNotFoundError:
        raise CatalogError(
            f"{folder} does not say after which step it was saved: keep transformers' {TRAINER_STATE} beside its weights"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"cannot read {folder / TRAINER_STATE}: {error}") from None


def checkpoints_matching(patterns: Sequence[str]) -> dict[str, list[CheckpointOnDisk]]:
    """The checkpoints in the folders that some glob patterns match, by fine-tuning run and in order of training.

    Checkpoints in one folder are one run. A folder that has nothing of a checkpoint is passed over, as long as its
    pattern matches another that has.

    Args:
        patterns: as on a command line, ``~`` and ``**`` included.

    Returns:
        By the run's folder.

    Raises:
        CatalogError: a pattern matches no checkpoint, or a checkpoint does not say after which step it was saved.
    """
    folders: dict[Path, None] = {}
    for pattern in patterns:
        matched = [Path(found) for found in glob.glob(str(Path(pattern).expanduser()), recursive=True)]
        found = [folder for folder in matched if folder.is_dir() and _looks_like_one(folder)]
        if not found:
            why = "matches nothing" if not matched else "matches no checkpoint: they have adapter_config.json or config.json"
            raise CatalogError(f"--checkpoint '{pattern}' {why}")
        folders |= dict.fromkeys(sorted(found))
    runs: dict[str, list[CheckpointOnDisk]] = {}
    for folder in folders:
        runs.setdefault(str(folder.resolve().parent), []).append(checkpoint_at(folder))
    for run, checkpoints in runs.items():
        checkpoints.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.folder.name))
        steps = [checkpoint.step for checkpoint in checkpoints]
        if len(set(steps)) < len(steps):
            twice = next(step for step in steps if steps.count(step) > 1)
            raise CatalogError(f"two checkpoints in {run} were saved after step {twice}: name one of them")
    return dict(sorted(runs.items()))


def one_checkpoint(pattern: str) -> CheckpointOnDisk:
    """The one checkpoint that a glob pattern matches, or the last of those of one run that it matches.

    One by itself need not say after which step it was saved.

    Raises:
        CatalogError: it matches none, or checkpoints of several runs; see ``checkpoints_matching``.
    """
    matched = [Path(found) for found in glob.glob(str(Path(pattern).expanduser()), recursive=True)]
    if len(matched) == 1 and _looks_like_one(matched[0]):
        folder, known = matched[0], provenance_of(matched[0])
        if (
            known is None
            and not (folder / TRAINER_STATE).exists()
            and (is_adapter(folder) or (folder / "config.json").exists())
        ):
            return CheckpointOnDisk(folder, 0, None, is_adapter(folder), None)
    runs = checkpoints_matching([pattern])
    if len(runs) > 1:
        raise CatalogError(f"--checkpoint '{pattern}' matches checkpoints of {len(runs)} runs; name those of one run")
    return next(iter(runs.values()))[-1]


def _looks_like_one(folder: Path) -> bool:
    """Whether a folder is a checkpoint or means to be one: what is broken must be said, not passed over."""
    named = re.fullmatch(r"checkpoint-\d+", folder.name) is not None
    return named or any((folder / file).exists() for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "config.json", TRAINER_STATE))


def readable_id(name: str) -> str:
    """A folder's name over ``[A-Za-z0-9._-]``."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".") or "unnamed"
