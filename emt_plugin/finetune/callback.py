"""A callback of transformers' Trainer that looks, while a model is trained, at what it forgets."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from emt_plugin.analysis.keep import checkpoint_to_keep
from emt_plugin.catalog import Catalog, ImageSetSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune import looks as kept
from emt_plugin.finetune.looks import Look, Looks
from emt_plugin.finetune.undisturbed import undisturbed
from emt_plugin.finetune.watched import NO_CLASS, Asker, outcomes, watched
from emt_plugin.gate import findings
from emt_plugin.gate.tolerances import checked
from emt_plugin.stats import alpha_at
from emt_plugin.store import Store

BATCH = 8
# An epoch in thirds ends where it ends.
CLOSE = 1e-6
logger = logging.getLogger(__name__)


class ForgettingCallback(TrainerCallback):  # type: ignore[misc]
    """Classifies a few hundred images with the model in training, and compares that with what it answered at step 0.

    Takes no part in the training: weights end as without it, to the last bit. What it finds goes through the trainer's own
    ``log`` as ``emt/<image set>/gap``, ``low``, ``high`` and ``no_class``, fractions, and into ``emt-looks.json`` in the output
    folder, from which a run that goes on reads what was measured at step 0.

    Each look may spend a part of alpha alone: see ``emt_plugin.stats.alpha_at``, and docs/training.md for how often a run is
    stopped for nothing.

    Args:
        image_sets: which, by catalog name, path or hub id, or as specs.
        every: a whole number of steps, or a fraction of an epoch as a float; it looks after the last step too.
        images: of each image set, the first of its fixed order.
        trained_on: those of the image sets that are trained on, which lose nothing; the others are outside the domain.
        tolerance: the largest loss that is accepted, a fraction.
        stop: stop training when an image set outside the domain has lost more than that.
        keep: save a checkpoint at each look, and mark the last before any image set outside the domain no longer passes: it is
            the trainer's best, so that ``save_total_limit`` spares it. Not for a trainer that has a metric for its best.
        processor: the model's; None for the trainer's ``processing_class``.
        catalog: a catalog, or a file with more image sets.
        batch_size: images in one forward. Generating for so many at once is all the memory that it takes, and is given back.
        store: a folder where hashes of images are remembered, which spares decoding every image of a split at each start.
        say: told what a person who waits should know.

    Raises:
        CatalogError: an image set is not known, or a catalog file cannot be read.
        CouldNotRun: another argument means nothing.
        TolerancesError: the tolerance is no fraction.
    """

    def __init__(
        self,
        image_sets: Sequence[str | ImageSetSpec],
        *,
        every: int | float = 0.25,
        images: int = 300,
        trained_on: Collection[str | ImageSetSpec] = (),
        tolerance: float = 0.05,
        stop: bool = False,
        keep: bool = False,
        processor: Any = None,
        catalog: Catalog | str | Path | None = None,
        batch_size: int = BATCH,
        store: str | Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._catalog = catalog if isinstance(catalog, Catalog) else Catalog.load(Path(catalog) if catalog else None)
        self._specs = list({spec.id: spec for spec in map(self._spec, _listed(image_sets))}.values())
        domain = {self._spec(name).id for name in _listed(trained_on)}
        self._outside = [spec.id for spec in self._specs if spec.id not in domain]
        self._every = every
        self._images = images
        self._tolerance = checked(tolerance, "tolerance")
        self._stop = stop
        self._keep = keep
        self.processor = processor
        self._batch_size = batch_size
        self._store = Store(Path(store)) if store else None
        self._say = say
        self._refuse_what_means_nothing()
        self._before = 0.0
        self._looks: Looks | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        """Measure the base, or read what was measured at step 0 where training goes on from a later one.

        Raises:
            CouldNotRun: the model cannot be asked, or nothing is known of its step 0.
        """
        trainer = calling(self)
        _refuse_sharded(trainer)
        self._refuse_another_best(args)
        self._watched = watched(self._specs, self._catalog, self._images, self._store)
        described = {
            "image_sets": {name: part.facts for name, part in self._watched.items()},
            "outside": self._outside,
            "tolerance": self._tolerance,
        }
        self._before = state.epoch or 0.0
        if state.global_step:
            known = self._read_back(args, described, state.global_step)
            self._looks = known if self._stop else replace(known, stopped=None)
            return
        with undisturbed(model):
            readings = self._readings(args, model, rest.get("processing_class"))
            self._looks = Looks(described, readings)
            self._log(trainer, control, {name: {"gap": 0.0, "low": 0.0, "high": 0.0, "no_class": _no_class(signs)}
                                         for name, signs in readings.items()})  # fmt: skip
        self._write(args, state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Remember how far the epoch was."""
        self._before = state.epoch or 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        """Look, where a look is due."""
        assert self._looks is not None
        taken = self._looks.looks
        if (taken and taken[-1].step >= state.global_step) or not self._is_due(state):
            return
        trainer, begun = calling(self), time.process_time()
        with undisturbed(model):
            try:
                readings = self._readings(args, model, rest.get("processing_class"))
            except CouldNotRun as error:
                # Hours of training are not thrown away for a look.
                logger.warning("no look after %d steps: %s", state.global_step, error)
                return
            look = self._look(state, readings)
            self._looks = self._with(self._looks, look)
            self._log(trainer, control, look.sets)
        self._act(args, state, control, trainer, look, time.process_time() - begun)
        self._write(args, state)

    def _spec(self, named: str | ImageSetSpec) -> ImageSetSpec:
        return named if isinstance(named, ImageSetSpec) else self._catalog.image_set(named)

    def _refuse_what_means_nothing(self) -> None:
        """Refuse arguments that leave nothing to do.

        Raises:
            CouldNotRun: there are such.
        """
        every, counts = self._every, (self._images, self._batch_size)
        if not self._specs:
            raise CouldNotRun("no image set is named to be watched; name one, such as ForgettingCallback(['cifar10'])")
        if isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < float("inf"):
            raise CouldNotRun(
                f"every={every!r} never looks: write a number of steps, such as 100, or a fraction of an epoch, such as 0.25"
            )
        if any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in counts):
            raise CouldNotRun("images and batch_size are whole numbers of at least 1")
        if (self._stop or self._keep) and not self._outside:
            what = "stop" if self._stop else "keep"
            raise CouldNotRun(
                f"{what}=True needs an image set outside the domain, and all that are watched are trained on: watch another"
            )

    def _refuse_another_best(self, args: Any) -> None:
        """Refuse to mark a checkpoint where the trainer does by a metric.

        Raises:
            CouldNotRun: it does.
        """
        if self._keep and (args.metric_for_best_model or args.load_best_model_at_end):
            raise CouldNotRun(
                "keep=True marks the trainer's best checkpoint, which metric_for_best_model and load_best_model_at_end do too: "
                "leave out one of them"
            )

    def _is_due(self, state: Any) -> bool:
        if state.global_step >= state.max_steps:
            return True
        if isinstance(self._every, int):
            return bool(state.global_step % self._every == 0)
        return int(state.epoch / self._every + CLOSE) > int(self._before / self._every + CLOSE)

    def _read_back(self, args: Any, described: Mapping[str, Any], step: int) -> Looks:
        # The folder may be the first machine's alone.
        folder = Path(args.output_dir)
        found, problem = None, ""
        if args.process_index == 0:
            try:
                found = kept.read(folder)
            except CouldNotRun as error:
                problem = str(error)
        told: tuple[Looks | None, str] = gather_object([(found, problem)])[0]
        found, problem = told
        if problem:
            raise CouldNotRun(problem)
        if found is None:
            raise CouldNotRun(
                f"training goes on from step {step}, and {folder / kept.LOOKS} with what was measured at step 0 is not there: "
                f"copy it from the folder of the run that began, or train without the callback"
            )
        other = next((name for name, value in described.items() if found.watched.get(name) != value), None)
        if other:
            raise CouldNotRun(
                f"{folder / kept.LOOKS} is of a run with another {other} ({found.watched.get(other)}, not {described[other]}): "
                f"go on with what that run began with, or train anew"
            )
        return found.upto(step)

    def _readings(self, args: Any, model: Any, processing_class: Any) -> dict[str, str]:
        """How answers to all images were read, each by one of the processes.

        Raises:
            CouldNotRun: the model cannot be asked, in any of the processes.
        """
        mine: dict[str, str] = {}
        problem = ""
        try:
            asker = Asker(model, self.processor or processing_class, self._batch_size, _precision(args))
            share = slice(args.process_index, None, args.world_size)
            mine = {name: asker.readings(part, share) for name, part in self._watched.items()}
        except CouldNotRun as error:
            # The others wait to be told.
            problem = str(error)
        parts = gather_object([(mine, problem)])
        problem = next((text for _, text in parts if text), "")
        if problem:
            raise CouldNotRun(problem)
        return {name: _interleaved([part[name] for part, _ in parts]) for name in self._watched}

    def _look(self, state: Any, readings: Mapping[str, str]) -> Look:
        assert self._looks is not None
        number = len(self._looks.looks) + 1
        found = findings(
            outcomes(readings),
            outcomes(self._looks.base),
            self._outside,
            number,
            self._tolerance,
            {name: part.chance for name, part in self._watched.items()},
        )
        sets = {name: {**asdict(finding), "no_class": _no_class(readings[name])} for name, finding in found.items()}
        return Look(int(state.global_step), float(state.epoch), alpha_at(number), sets)

    def _with(self, looks: Looks, look: Look) -> Looks:
        """What was seen, with one look more."""
        seen = (*looks.looks, look)
        # The base is compared with itself, which passes.
        verdicts = [{}, *({name: found["verdict"] for name, found in each.sets.items()} for each in seen)]
        domain = [name for name in self._watched if name not in self._outside]
        at = checkpoint_to_keep(verdicts, domain).kept
        return replace(looks, looks=seen, keep=seen[at - 1].step if at else 0)

    def _log(self, trainer: Any, control: Any, sets: Mapping[str, Mapping[str, Any]]) -> None:
        """Through the trainer, to whatever listens to it.

        In evaluation mode: TRL's trainers add to what is logged in training what they have gathered of it, and forget that.
        """
        asked = control.should_log
        trainer.log({
            f"emt/{name}/{figure}": float(found[figure])
            for name, found in sets.items()
            for figure in ("gap", "low", "high", "no_class")
        })  # fmt: skip
        # After a log the trainer takes the one for done that was asked for.
        control.should_log = asked

    def _act(self, args: Any, state: Any, control: Any, trainer: Any, look: Look, seconds: float) -> None:
        """Stop, or have a checkpoint kept."""
        assert self._looks is not None
        if state.is_world_process_zero:
            self._say(_words(look, seconds))
        if self._keep:
            control.should_save = True
            if self._looks.keep == look.step:
                folder = Path(trainer._get_output_dir(trial=None)) / f"{PREFIX_CHECKPOINT_DIR}-{look.step}"
                state.best_global_step, state.best_model_checkpoint = look.step, str(folder)
        if self._stop and look.failed and state.global_step < state.max_steps:
            control.should_training_stop = True
            self._looks = replace(self._looks, stopped=look.step)
            if state.is_world_process_zero:
                self._say(
                    f"training stops after {look.step} steps: {', '.join(look.failed)} lost more than {self._tolerance:g}"
                )

    def _write(self, args: Any, state: Any) -> None:
        if not state.is_world_process_zero:
            return
        assert self._looks is not None
        try:
            kept.write(Path(args.output_dir), self._looks)
        except OSError as error:
            logger.warning("%s cannot be written (%s): a run that goes on will miss it", kept.LOOKS, error)


def calling(callback: TrainerCallback) -> Any:
    """The trainer that is calling a callback, which it hands everything but itself.

    Raises:
        CouldNotRun: nobody who calls has the callback.
    """
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        handler = getattr(found, "callback_handler", None)
        if callback in getattr(handler, "callbacks", ()):
            return found
        frame = frame.f_back
    raise CouldNotRun("the callback is called by no trainer of transformers: hand it over as Trainer(callbacks=[...])")


def _refuse_sharded(trainer: Any) -> None:
    """Refuse training in which no process has the whole model.

    Raises:
        CouldNotRun: it is such.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
        raise CouldNotRun(
            "under FSDP and DeepSpeed ZeRO-3 no process has the whole model, so it cannot be watched: train with DDP or "
            "ZeRO-2, or gate the checkpoints afterwards"
        )


def _precision(args: Any) -> torch.dtype | None:
    """What training computes in where weights are kept in more."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None


def _listed(names: Any) -> list[Any]:
    """Several names, or one."""
    return [names] if isinstance(names, str | ImageSetSpec) else list(names)


def _interleaved(parts: Sequence[str]) -> str:
    """Every n-th sign from each of n parts."""
    whole = [""] * sum(map(len, parts))
    for at, part in enumerate(parts):
        whole[at :: len(parts)] = list(part)
    return "".join(whole)


def _no_class(signs: str) -> float:
    return signs.count(NO_CLASS) / len(signs)


def _words(look: Look, seconds: float) -> str:
    """A look in a line."""
    sets = ", ".join(f"{name} {100 * found['gap']:+.1f}" for name, found in look.sets.items())
    return f"after {look.step} steps, points since step 0: {sets} ({seconds:.1f} CPU-seconds)"
