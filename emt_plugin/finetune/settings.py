"""What decides a fine-tuning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from emt_plugin.catalog import Catalog, ImageSetSpec
from emt_plugin.errors import CouldNotRun

Method = Literal["linear", "lora"]
MOST_ON_A_GPU = 8
METHODS: tuple[Method, ...] = ("linear", "lora")
# The paper gives none of these. Ours: those of the LLaVA repository that it used, at the commit that it names.
LEARNING_RATES: Mapping[Method, float] = {"linear": 2e-3, "lora": 2e-4}
BATCH_SIZES: Mapping[Method, int] = {"linear": 128, "lora": 32}


@dataclass(frozen=True)
class FinetuneSettings:
    """How a model is fine-tuned.

    The paper (section 5) gives: projector alone or projector with LoRA, the frozen tower, three epochs, its conversations.
    The other defaults are ours, after the LLaVA repository of its time.

    Attributes:
        method: ``linear`` trains the projector, ``lora`` the projector and LoRA on the language model.
        epochs: passes over the training images; a checkpoint is saved after each.
        save_fractions: further checkpoints within the first epoch, fractions in (0, 1).
        learning_rate: the highest, reached after the warm-up; then a cosine to 0. None for the method's default.
        batch_size: conversations in one optimiser step, over all processes. None for the method's default.
        device_batch_size: conversations in one forward; None for the whole share of a process on the CPU, and for the
            largest part of it up to eight on a GPU.
        gradient_checkpointing: compute activations again in the backward pass, which saves most of the memory for a third more
            time; None for on a GPU.
        rank: of LoRA.
        alpha: of LoRA; updates are scaled by alpha / rank.
        dropout: of LoRA's input.
        warmup: share of all steps.
        weight_decay: of AdamW.
        gradient_norm: gradients are scaled down to this norm.
        resume_every: steps after which the state is saved to go on from; None for a tenth of an epoch, at least 20.
        limit: training images of each class at most; None for all.
        seed: of initial weights, order and dropout.
        logging_steps: the mean loss is logged after so many steps.
        report_to: what it is logged to beside ``trainer_state.json``, by transformers' names, such as ``tensorboard``.
    """

    method: Method = "lora"
    epochs: int = 3
    save_fractions: tuple[float, ...] = ()
    learning_rate: float | None = None
    batch_size: int | None = None
    device_batch_size: int | None = None
    gradient_checkpointing: bool | None = None
    rank: int = 64
    alpha: int = 16
    dropout: float = 0.05
    warmup: float = 0.03
    weight_decay: float = 0.0
    gradient_norm: float = 1.0
    resume_every: int | None = None
    limit: int | None = None
    seed: int = 2309
    logging_steps: int = 10
    report_to: tuple[str, ...] = ()

    def resolved(self, processes: int = 1, on_gpu: bool = False) -> FinetuneSettings:
        """The same with the defaults of the method and the machine filled in.

        Raises:
            CouldNotRun: a value means nothing; the message says what would.
        """
        wrong = next((text for is_wrong, text in self._checks() if is_wrong), None)
        if wrong:
            raise CouldNotRun(wrong)
        batch = self.batch_size or BATCH_SIZES[self.method]
        share, rest = divmod(batch, processes)
        most = min(share, MOST_ON_A_GPU) if on_gpu else share
        size = self.device_batch_size or next((size for size in range(most, 0, -1) if share % size == 0), 1)
        if rest or share % size:
            raise CouldNotRun(
                f"a batch size of {batch} is not made of {processes} processes with {size} conversations in each forward; "
                f"write one that is, with --batch-size and --device-batch-size"
            )
        return replace(
            self,
            save_fractions=tuple(sorted(set(self.save_fractions))),
            learning_rate=self.learning_rate or LEARNING_RATES[self.method],
            batch_size=batch,
            device_batch_size=size,
            gradient_checkpointing=on_gpu if self.gradient_checkpointing is None else self.gradient_checkpointing,
        )

    def as_record(self) -> dict[str, Any]:
        """Plain data, without what changes no weight."""
        found = asdict(self)
        for name in ("resume_every", "logging_steps", "report_to"):
            found.pop(name)
        if self.method == "linear":
            for name in ("rank", "alpha", "dropout"):
                found.pop(name)
        return {**found, "save_fractions": list(self.save_fractions)}

    def _checks(self) -> list[tuple[bool, str]]:
        rate = self.learning_rate
        counts = (self.batch_size, self.device_batch_size, self.limit, self.resume_every, self.logging_steps)
        return [
            (self.method not in METHODS, f"unknown method '{self.method}'; known: {', '.join(METHODS)}"),
            (self.epochs < 1, f"{self.epochs} epochs train nothing; write at least 1"),
            (
                any(not 0 < fraction < 1 for fraction in self.save_fractions),
                "save fractions are fractions of the first epoch, in (0, 1), such as 0.125,0.5",
            ),
            (rate is not None and not 0 < rate < 1, f"a learning rate of {rate} trains nothing; write one such as 2e-4"),
            (any(number is not None and number < 1 for number in counts),
             "batch sizes, limits and steps are whole numbers of at least 1"),
            (self.rank < 1 or self.alpha < 1, "LoRA's rank and alpha are whole numbers of at least 1"),
            (not 0 <= self.dropout < 1, f"a dropout of {self.dropout} is no fraction in [0, 1)"),
        ]  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """What is looked at while a model is fine-tuned; see ``ForgettingCallback``.

    Attributes:
        image_sets: which; the one that is trained on is the domain.
        every: a whole number of steps, or a fraction of an epoch as a float.
        images: of each image set.
        tolerance: the largest loss that is accepted, a fraction.
        stop: stop when an image set outside the domain has lost more than that.
        catalog: whose other image sets an answer may be a class of.
    """

    image_sets: tuple[ImageSetSpec, ...]
    every: int | float = 0.25
    images: int = 300
    tolerance: float = 0.05
    stop: bool = False
    catalog: Catalog = field(default_factory=Catalog.load)
