"""Continued fine-tuning of a multimodal LLM on one image set, one checkpoint for each epoch (the paper, section 5)."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emt_plugin.catalog import ImageSetSpec, ModelSpec
from emt_plugin.catalog.checkpoints import Provenance
from emt_plugin.data import ImageSet, load_image_set, load_train
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune.looks import read
from emt_plugin.finetune.settings import FinetuneSettings, Watch
from emt_plugin.models.checkpoint import Checkpoint, find
from emt_plugin.models.devices import refuse_missing_device
from emt_plugin.store.files import write_atomically

SETTINGS_FILE = "finetune.json"
ALL = 10**9
# Steps that are done again rather than saved.
SHORTEST_TO_RESUME = 20


@dataclass(frozen=True)
class Finetuned:
    """What a run left.

    Attributes:
        folder: where.
        checkpoints: in order of training.
    """

    folder: Path
    checkpoints: tuple[Path, ...]


def finetune(
    model: ModelSpec,
    image_set: ImageSetSpec,
    folder: Path,
    settings: FinetuneSettings | None = None,
    dtype: str | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Finetuned:
    """Fine-tune a model on the training split of an image set; a run that was killed goes on where it was.

    Checkpoints are PEFT adapters, ``folder/checkpoint-<step>``, with the projector among their weights and ``emt.json`` beside
    them. Under ``accelerate launch`` all processes take part.

    Args:
        model: any multimodal LLM of transformers that writes with a decoder alone, from the catalog.
        image_set: from the catalog; no image of its evaluated split is trained on.
        folder: where checkpoints go.
        settings: how it is trained; None for the defaults.
        dtype: of the frozen weights, ``float32`` or ``bfloat16``; None for bfloat16 on an NVIDIA or AMD GPU, else float32.
        device: ``cpu`` keeps training off a GPU that is there; None for whatever accelerate finds.
        say: told what a person who waits should know.
        watch: what is looked at on the way; None for nothing.

    Raises:
        CouldNotRun: the model or the images cannot be had, the folder holds another run, training diverged, or a checkpoint
            could not be saved. What was saved before is whole.
    """
    place = device or _default_place()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    decided = (settings or FinetuneSettings()).resolved(processes, place != "cpu")
    if model.adapter:
        raise CouldNotRun(f"{model.name} is an adapter: fine-tune its base, or merge the two with peft first")
    if device:
        refuse_missing_device(device)
    checkpoint = find(model.source, model.id, model.name, model.revision)
    images = _training_images(image_set, decided.limit)
    description = {
        "base": _known_as(model),
        "base_weights": checkpoint.fingerprint(),
        "image_set": image_set.id,
        "image_set_fingerprint": images.fingerprint,
        "question": image_set.tuning_question(images.labels),
        "answer": image_set.tuning_answer,
        "processes": processes,
        "dtype": dtype or ("bfloat16" if place == "cuda" else "float32"),
        **decided.as_record(),
    }
    _claim(folder, description)
    try:
        with warnings.catch_warnings():
            # transformers and peft tell each other of their deprecations.
            warnings.simplefilter("ignore")
            with _alone_in(folder):
                _train(checkpoint, images, folder, decided, description, place, model.trust_remote_code, say, watch)
    except RuntimeError as error:
        from emt_plugin.models.transformers_backend import ran_out_of_memory

        if not ran_out_of_memory(error):
            raise
        raise CouldNotRun(
            f"memory ran out on {place} with {decided.device_batch_size} conversations in each forward: run it again with a "
            f"smaller --device-batch-size, and --gradient-checkpointing if it is not on"
        ) from None
    except ImportError as error:
        raise CouldNotRun(f"fine-tuning needs more packages: pip install 'pytest-emt[finetune]' ({error})") from None
    from emt_plugin.finetune.trainer import whole_checkpoints

    return Finetuned(folder, tuple(whole_checkpoints(folder)))


@dataclass(frozen=True)
class Schedule:
    """How a run is cut into steps.

    Attributes:
        per_device: conversations in one forward.
        accumulation: forwards in one step of one process.
        steps: in each epoch.
        keep_at: steps after which there is a checkpoint.
        resume_at: steps after which there is a state to go on from.
    """

    per_device: int
    accumulation: int
    steps: int
    keep_at: frozenset[int]
    resume_at: frozenset[int]


def _train(
    checkpoint: Checkpoint,
    images: ImageSet,
    folder: Path,
    settings: FinetuneSettings,
    description: Mapping[str, Any],
    place: str,
    trust_remote_code: bool,
    say: Callable[[str], None],
    watch: Watch | None,
) -> None:
    from transformers import PrinterCallback, set_seed
    from transformers.utils import logging

    from emt_plugin.finetune.adapters import with_adapter
    from emt_plugin.finetune.conversations import Collator, Conversations
    from emt_plugin.finetune.trainer import CheckpointTrainer, SaveAt, forget_state, newest_state, step_of, whole_checkpoints
    from emt_plugin.models.families import PREFIX_MODELS
    from emt_plugin.models.transformers_backend import end_tokens, load_model

    _refuse_unknown_reporters(settings.report_to)
    halted = read(folder) if watch and watch.stop else None
    if halted and halted.stopped is not None:
        say(f"{folder} is complete: training was stopped after {halted.stopped} steps; go on from there without --watch-stop")
        return
    # What they mean is settled before a large model is loaded.
    watchers = _watchers(watch, images, say)
    logging.set_verbosity_error()
    set_seed(settings.seed)
    loaded, processor = load_model(checkpoint, "cpu", description["dtype"], trust_remote_code)
    for watcher in watchers:
        watcher.processor = processor
    made = with_adapter(loaded, settings, description["base"])
    rows = Conversations(images, processor, end_tokens(loaded, processor.tokenizer), checkpoint.name)
    schedule = _schedule(settings, len(rows))
    arguments = _arguments(folder, settings, schedule, place, description["dtype"])
    if arguments.n_gpu > 1:
        raise CouldNotRun(
            f"one process sees {arguments.n_gpu} GPUs: start one for each, accelerate launch --num_processes {arguments.n_gpu} "
            f"-m emt_plugin.cli finetune ..., or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    trainer = CheckpointTrainer(
        folder,
        schedule.keep_at,
        lambda step, epoch, loss: _provenance(description, step, epoch, loss),
        lambda saved, loss: say(f"{saved}" + ("" if loss is None else f": mean loss {loss:.4f}")),
        model=made,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(processor, loaded.config.model_type in PREFIX_MODELS),
        callbacks=[*watchers, SaveAt(schedule.keep_at | schedule.resume_at)],
    )
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise CouldNotRun("sharded training is not supported: use an accelerate configuration without DeepSpeed and FSDP")
    # It would print the summary of the last step as a dictionary.
    trainer.remove_callback(PrinterCallback)
    found, start = whole_checkpoints(folder), newest_state(folder)
    whole = bool(found) and step_of(found[-1]) >= max(schedule.keep_at)
    if found and not whole and not start:
        raise CouldNotRun(
            f"{folder} holds {found[-1].name} and nothing that training could go on from; name another with --out"
        )
    if trainer.is_world_process_zero():
        say(_announcement(checkpoint.name, images, settings, schedule, made, found[-1] if whole else start, whole))
    # Nobody saves before everybody has looked where to go on.
    trainer.accelerator.wait_for_everyone()
    if not whole:
        if start:
            trainer.go_on_from(start)
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    # A run that was stopped may be gone on with.
    if trainer.is_world_process_zero() and trainer.state.global_step >= trainer.state.max_steps:
        forget_state(folder)


def _arguments(folder: Path, settings: FinetuneSettings, schedule: Schedule, place: str, dtype: str) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.per_device,
        gradient_accumulation_steps=schedule.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup * schedule.steps * settings.epochs),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_norm,
        optim="adamw_torch",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="no",
        logging_steps=settings.logging_steps,
        report_to=list(settings.report_to),
        remove_unused_columns=False,
        disable_tqdm=not sys.stderr.isatty(),
        use_cpu=place == "cpu",
        bf16=dtype == "bfloat16",
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=place != "cpu",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
    )


def _watchers(watch: Watch | None, images: ImageSet, say: Callable[[str], None]) -> list[Any]:
    """The callback that looks at some image sets, where that is asked for."""
    if watch is None:
        return []
    from emt_plugin.finetune.callback import ForgettingCallback

    callback = ForgettingCallback(
        watch.image_sets, every=watch.every, images=watch.images, trained_on=[images.spec], tolerance=watch.tolerance,
        stop=watch.stop, catalog=watch.catalog, say=say,
    )  # fmt: skip
    return [callback]


def _refuse_unknown_reporters(names: Sequence[str]) -> None:
    """Refuse what transformers cannot log to.

    Raises:
        CouldNotRun: there is no such reporter, or its package is not installed.
    """
    from transformers.integrations import get_reporting_integration_callbacks

    try:
        for reporter in get_reporting_integration_callbacks(list(names)):
            reporter()
    except (ValueError, RuntimeError, ImportError) as error:
        raise CouldNotRun(f"--report-to {' '.join(names)} cannot be had: {error}") from None


def _provenance(description: Mapping[str, Any], step: int, epoch: float, loss: float | None) -> Provenance:
    known = dict(description)
    named = {name: known.pop(name) for name in ("base", "base_weights", "image_set", "image_set_fingerprint", "method")}
    mean = None if loss is None else round(loss, 6)
    return Provenance(**named, step=step, epoch=round(epoch, 6), settings=known, loss=mean)


def _announcement(
    name: str, images: ImageSet, settings: FinetuneSettings, schedule: Schedule, made: Any, start: Path | None, whole: bool
) -> str:
    if start and whole:
        return f"{start.parent} is complete: {start.name} is its last checkpoint"
    trained = sum(weights.numel() for weights in made.parameters() if weights.requires_grad)
    return (
        f"fine-tuning {name} on {len(images.items)} images of {images.spec.id}, {settings.method}, {trained:,} weights: "
        f"{settings.epochs} x {schedule.steps} steps of {settings.batch_size}"
        + (f", going on from {start.name}" if start else "")
    )


def _training_images(spec: ImageSetSpec, limit: int | None) -> ImageSet:
    found = load_train(load_image_set(spec), limit or ALL)
    if found is None:
        raise CouldNotRun(
            f"image set {spec.id} has no split '{spec.train_split}' with all its classes to fine-tune on; "
            f"name one with train_split in a catalog file (--catalog)"
        )
    return found


def _known_as(model: ModelSpec) -> str:
    """The base's name for others: its catalog name or hub id, never where it lies on this machine."""
    return model.id if Path(model.name).expanduser().exists() else model.name


def _claim(folder: Path, description: dict[str, Any]) -> None:
    """Make the folder this run's, or see that it is.

    Raises:
        CouldNotRun: it holds another run.
    """
    path = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted([*folder.glob("checkpoint-*"), *folder.glob(".resume/checkpoint-*")])
        if not path.exists() and others:
            raise CouldNotRun(f"{folder} holds {others[0].name} of another run; name another folder with --out")
        if not others:
            write_atomically(path, (json.dumps(description, indent=1) + "\n").encode())
            return
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CouldNotRun(f"{folder} cannot be used ({error}); name another folder with --out") from None
    if not isinstance(known, dict):
        raise CouldNotRun(
            f"{folder} cannot be used ({path.name} is not what fine-tuning writes); name another folder with --out"
        )
    other = sorted(name for name in {*known, *description} if known.get(name) != description.get(name))
    if other:
        raise CouldNotRun(
            f"{folder} holds a run with another {other[0]} ({known.get(other[0])}, not {description.get(other[0])}); "
            f"name another folder with --out"
        )


def _schedule(settings: FinetuneSettings, images: int) -> Schedule:
    """The steps over so many training images; ``settings`` are resolved."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    size = settings.device_batch_size or 1
    accumulation = (settings.batch_size or 1) // processes // size
    steps = math.ceil(math.ceil(images / (size * processes)) / accumulation)
    within = {max(1, round(fraction * steps)) for fraction in settings.save_fractions}
    every = settings.resume_every or max(steps // 10, SHORTEST_TO_RESUME)
    return Schedule(
        size,
        accumulation,
        steps,
        frozenset(within | {steps * epoch for epoch in range(1, settings.epochs + 1)}),
        frozenset(range(every, steps * settings.epochs, every)),
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the processes of one run share it.

    Raises:
        CouldNotRun: another run is in it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CouldNotRun(f"another run is training into {folder}; wait for it, or name another folder with --out") from None
    try:
        yield
    finally:
        lock.release()


def _default_place() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
