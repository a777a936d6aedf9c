"""transformers' Trainer, saving whole checkpoints at the steps that were asked for, or nothing."""

from __future__ import annotations

import math
import os
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

STAGING = ".saving"
# What only resuming needs; the last checkpoint has it.
RESUMING = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")


class SaveAt(TrainerCallback):  # type: ignore[misc]
    """Asks for a checkpoint after certain steps."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = frozenset(steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See ``TrainerCallback``."""
        control.should_save = state.global_step in self._steps


class CheckpointTrainer(Trainer):  # type: ignore[misc]
    """A trainer whose checkpoints appear under their names when they are whole, and not before.

    Args:
        folder: where checkpoints go.
        provenance: what to write beside the weights, given steps, epochs and the mean loss since the checkpoint before.
        said: called with the folder of each checkpoint and its loss.
        **rest: what ``Trainer`` takes.
    """

    def __init__(
        self,
        folder: Path,
        provenance: Callable[[int, float, float | None], Provenance],
        said: Callable[[Path, float | None], None],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self._folder = folder
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

    def _mean_loss(self) -> float | None:
        """Mean over the steps since the last checkpoint and over all processes."""
        steps = self.state.global_step - self._since
        summed = self.accelerator.gather(torch.tensor([self._loss], device=self.args.device))
        self._loss, self._since = 0.0, self.state.global_step
        return float(summed.mean()) / steps if steps else None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._folder / STAGING) if self._saving else str(super()._get_output_dir(trial))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Asked about embeddings, peft would look for the base on the hub.
        self.model.save_pretrained(output_dir, save_embedding_layers=False, is_main_process=self.args.should_save)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged, final = self._folder / STAGING / name, self._folder / name
        loss = self._mean_loss()
        self._refuse_broken_weights()
        self._saving = True
        try:
            if self.args.should_save:
                # What a killed run left there is no part of this checkpoint.
                shutil.rmtree(self._folder / STAGING, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                made = self._provenance(self.state.global_step, float(self.state.epoch or 0), loss)
                (staged / PROVENANCE).write_text(made.to_json(), encoding="utf-8")
                (staged / "README.md").unlink(missing_ok=True)
                _synced(staged)
                staged.rename(final)
                _synced(self._folder, files=False)
                shutil.rmtree(self._folder / STAGING, ignore_errors=True)
                self._forget_earlier(final)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self._folder / STAGING, ignore_errors=True)
            text = " ".join(str(error).split())[:160]
            raise CouldNotRun(
                f"{name} cannot be saved in {self._folder} ({text}); earlier checkpoints are untouched: make room and run the "
                f"same command again, which goes on from the last of them"
            ) from None
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._said(final, loss)

    def _refuse_broken_weights(self) -> None:
        broken = [name for name, weights in self.model.named_parameters()
                  if weights.requires_grad and not bool(torch.isfinite(weights).all())]  # fmt: skip
        if broken:
            raise CouldNotRun(
                f"{len(broken)} trained tensors are no numbers any more after {self.state.global_step} steps: training has "
                f"diverged; checkpoints saved before are untouched, and a lower --learning-rate may help"
            )

    def _forget_earlier(self, last: Path) -> None:
        """Delete what only resuming needs from all checkpoints but the last: for a large model it is most of their size."""
        for folder in self._folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            if folder != last:
                for pattern in RESUMING:
                    for path in folder.glob(pattern):
                        path.unlink(missing_ok=True)


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, in order of training."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / PROVENANCE).exists()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was saved, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def can_be_resumed(checkpoint: Path) -> bool:
    """Whether training can go on from a checkpoint."""
    return (checkpoint / TRAINER_STATE).exists() and (checkpoint / "optimizer.pt").exists()


def _synced(folder: Path, files: bool = True) -> None:
    """Have the system write a folder, and its files, to the disk before anything that relies on it is done."""
    for path in (*(folder.iterdir() if files else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
