"""transformers' Trainer, saving whole checkpoints at the steps that were asked for, or nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from emt_plugin.catalog.checkpoints import PROVENANCE, TRAINER_STATE, Provenance
from emt_plugin.errors import CouldNotRun
from emt_plugin.store.files import synced

STAGING = ".saving"
# The newest state that training can go on from, with the optimiser's: for a large model it is most of a checkpoint's size.
RESUME = ".resume"
LOSS = "loss.json"
KEPT = ("adapter_config.json", "adapter_model.safetensors", TRAINER_STATE)


class SaveAt(TrainerCallback):  # type: ignore[misc]
    """Asks for the state to be saved after certain steps, and where training stops."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = frozenset(steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See ``TrainerCallback``."""
        control.should_save = control.should_training_stop or state.global_step in self._steps


class CheckpointTrainer(Trainer):  # type: ignore[misc]
    """A trainer whose checkpoints appear under their names when they are whole, and not before.

    Args:
        folder: where checkpoints go.
        kept: steps whose state becomes a checkpoint, as does that of a step after which training stops; what is saved after
            others is there to go on from, until the next.
        provenance: what to write beside the weights, given steps, epochs and the mean loss since the checkpoint before.
        said: called with the folder of each checkpoint and its loss.
        **rest: what ``Trainer`` takes.
    """

    def __init__(
        self,
        folder: Path,
        kept: Collection[int],
        provenance: Callable[[int, float, float | None], Provenance],
        said: Callable[[Path, float | None], None],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self._folder = folder
        self._kept = frozenset(kept)
        self._provenance = provenance
        self._said = said
        self._saving = False
        # Sum of the micro-batches' losses, each a share of its step's, and the step at which it began.
        self._loss = 0.0
        self._since = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """See ``Trainer``.

        Raises:
            CouldNotRun: the loss is no longer a number.
        """
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = float(loss)
        if not math.isfinite(value):
            raise CouldNotRun(
                f"the loss is {value} after {self.state.global_step} steps: training has diverged; checkpoints saved "
                f"before are untouched, and a lower --learning-rate may help"
            )
        self._loss += value
        return loss

    def go_on_from(self, state: Path) -> None:
        """Take up the losses that were summed before ``state`` was saved; the rest is for ``train``."""
        known = json.loads((state / LOSS).read_text(encoding="utf-8"))
        self._loss, self._since = float(known["sum"]), int(known["since"])

    def _summed_loss(self) -> float:
        """Since the last checkpoint, the mean over all processes."""
        return float(self.accelerator.gather(torch.tensor([self._loss], device=self.args.device)).mean())

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._folder / STAGING) if self._saving else str(super()._get_output_dir(trial))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Asked about embeddings, peft would look for the base on the hub.
        self.model.save_pretrained(output_dir, save_embedding_layers=False, is_main_process=self.args.should_save)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        name, kept = f"{PREFIX_CHECKPOINT_DIR}-{step}", step in self._kept or self.control.should_training_stop
        staged = self._folder / STAGING / name
        summed, steps = self._summed_loss(), step - self._since
        if kept:
            self._loss, self._since = 0.0, step
        self._refuse_broken_weights()
        self._saving = True
        try:
            if self.args.should_save:
                # What a killed run left there is no part of this one.
                shutil.rmtree(self._folder / STAGING, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                left = {"sum": 0.0 if kept else summed, "since": self._since}
                (staged / LOSS).write_text(json.dumps(left), encoding="utf-8")
                if kept:
                    self._keep(staged, summed / steps if steps else None)
                self._resume_from(staged)
                shutil.rmtree(self._folder / STAGING, ignore_errors=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self._folder / STAGING, ignore_errors=True)
            text = " ".join(str(error).split())[:160]
            raise CouldNotRun(
                f"{name} cannot be saved in {self._folder} ({text}); earlier checkpoints are untouched: make room and run the "
                f"same command again, which goes on from the last state that was saved"
            ) from None
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()

    def _keep(self, staged: Path, loss: float | None) -> None:
        """A checkpoint of what is staged, without what only going on needs."""
        final, made = self._folder / staged.name, self._folder / STAGING / "kept"
        # A run that was killed right after has it, and is here again.
        if not (final / PROVENANCE).exists():
            made.mkdir()
            for file in KEPT:
                shutil.copy(staged / file, made / file)
            told = self._provenance(self.state.global_step, float(self.state.epoch or 0), loss)
            (made / PROVENANCE).write_text(told.to_json(), encoding="utf-8")
            synced(made)
            made.rename(final)
            synced(self._folder, files=False)
        self._said(final, loss)

    def _resume_from(self, staged: Path) -> None:
        """Put what is staged in the place of the state before it."""
        place = self._folder / RESUME
        place.mkdir(exist_ok=True)
        synced(staged)
        target = place / staged.name
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)
        synced(place, files=False)
        for other in place.iterdir():
            if other != target:
                shutil.rmtree(other, ignore_errors=True)

    def _refuse_broken_weights(self) -> None:
        broken = [name for name, weights in self.model.named_parameters()
                  if weights.requires_grad and not bool(torch.isfinite(weights).all())]  # fmt: skip
        if broken:
            raise CouldNotRun(
                f"{len(broken)} trained tensors are no numbers any more after {self.state.global_step} steps: training has "
                f"diverged; checkpoints saved before are untouched, and a lower --learning-rate may help"
            )


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, in order of training; what somebody named otherwise (``checkpoint-best``) is none."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / PROVENANCE).exists()]
    return sorted((path for path in found if path.name.rpartition("-")[2].isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was saved, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def newest_state(folder: Path) -> Path | None:
    """The state that training into a folder can go on from; None where there is none."""
    found = [state for state in (folder / RESUME).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (state / LOSS).exists()]
    return max(found, key=step_of, default=None)


def forget_state(folder: Path) -> None:
    """Delete what only going on needs."""
    shutil.rmtree(folder / RESUME, ignore_errors=True)
