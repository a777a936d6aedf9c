"""Watching a model in training: the weights end as without it, and what is seen is what the suite sees of the checkpoints."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from emt_plugin.catalog import Catalog, CatalogError, bundled_folder
from emt_plugin.data import ImageSet, load_image_set, load_train
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune import FinetuneSettings, ForgettingCallback
from emt_plugin.finetune.adapters import with_adapter
from emt_plugin.finetune.conversations import Collator, Conversations
from emt_plugin.finetune.undisturbed import undisturbed
from emt_plugin.gate.tolerances import TolerancesError
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend, end_tokens, load_model
from emt_plugin.scoring import AnswerScorer, ScorerContext

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # TrainingArguments calls checkpointing by another name from 5.20 on, and peft asks by an old one.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LLAVA = bundled_folder() / "models" / "llava-mini"
LOOKS = "emt-looks.json"
FIGURES = ("gap", "low", "high", "no_class")
# At the first rate LoRA forgets other image sets within a few steps; at the other nothing happens.
FORGETFUL, HARMLESS = 3e-2, 5e-6
ARGUMENTS = {"max_steps": 6, "learning_rate": 5e-3, "per_device_train_batch_size": 16, "report_to": [], "use_cpu": True,
             "save_strategy": "no", "logging_strategy": "no", "remove_unused_columns": False, "disable_tqdm": True}  # fmt: skip


class Draws(TrainerCallback):
    """A callback that does disturb: it draws one number after the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 2:
            torch.rand(1)


def watching(*names: str, **options: Any) -> ForgettingCallback:
    given = {"every": 2, "images": 24, "say": lambda text: None, **options}
    return ForgettingCallback(names or ("mnist-mini",), **given)


@cache
def training_images() -> ImageSet:
    found = load_train(load_image_set(Catalog.load().image_set("fashion-mini")), 12)
    assert found is not None
    return found


def made_trainer(
    out: Path, *callbacks: TrainerCallback, lora: bool = True, dtype: str = "float32", first: int = 120, **options: Any
) -> Trainer:
    """Of llava-mini on images of fashion-mini, shuffled; with LoRA there is dropout, without it all weights are trained."""
    set_seed(1)
    model, processor = load_model(find(str(LLAVA), "m", "m"), "cpu", dtype)
    images = training_images()
    conversations = Conversations(images, processor, end_tokens(model, processor.tokenizer), "m")
    rows = torch.utils.data.Subset(conversations, range(first))
    made = with_adapter(model, FinetuneSettings("lora", rank=4, dropout=0.1), str(LLAVA)) if lora else model
    arguments = TrainingArguments(output_dir=str(out), **ARGUMENTS | options)
    return Trainer(made, arguments, Collator(processor), rows, processing_class=processor, callbacks=list(callbacks))


def chances() -> list[Any]:
    """The random states, and what comes of them next."""
    state = np.random.get_state()
    return [random.getstate(), state[1].tolist(), state[2], torch.get_rng_state().tolist()]


def trained(trainer: Trainer, **options: Any) -> tuple[dict[str, torch.Tensor], list[Any]]:
    trainer.train(**options)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}, chances()


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def looks(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / LOOKS).read_text()))


def logged(trainer: Trainer) -> dict[int, dict[str, float]]:
    """What the trainer logged of image sets, by step."""
    found = {}
    for entry in trainer.state.log_history:
        figures = {name: value for name, value in entry.items() if name.startswith("emt/")}
        if figures:
            found[entry["step"]] = figures
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """What training ends with when nobody looks."""
    return trained(made_trainer(tmp_path_factory.mktemp("alone")))


def test_watched_or_not_training_ends_in_equal_weights(alone: Any, tmp_path: Path) -> None:
    trainer = made_trainer(tmp_path, watching("mnist-mini", "emoji-mini"))
    weights, states = trained(trainer)
    assert are_equal(weights, alone[0])
    assert states == alone[1]
    assert sorted(logged(trainer)) == [0, 2, 4, 6]
    # A single number drawn between two steps is another dropout, and other weights.
    assert not are_equal(trained(made_trainer(tmp_path / "drawn", Draws()))[0], alone[0])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}, "max_steps": 4},
            id="checkpointing",
        ),
        pytest.param(
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}, "max_steps": 2},
            id="reentrant",
            marks=pytest.mark.thorough,
        ),
        pytest.param({"dtype": "bfloat16", "bf16": True, "max_steps": 2}, id="half"),
        pytest.param({"bf16": True, "max_steps": 4}, id="autocast", marks=pytest.mark.thorough),
        pytest.param(
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8, "max_steps": 4},
            id="accumulation",
            marks=pytest.mark.thorough,
        ),
        pytest.param({"lora": False, "max_steps": 4, "learning_rate": 1e-4}, id="all weights", marks=pytest.mark.thorough),
        pytest.param({"lora": False, "bf16": True, "max_steps": 2}, id="all in autocast", marks=pytest.mark.thorough),
        pytest.param(
            {"max_steps": -1, "num_train_epochs": 1, "logging_strategy": "steps", "logging_steps": 1},
            id="epoch",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_however_it_is_trained(options: dict[str, Any], tmp_path: Path) -> None:
    plain = made_trainer(tmp_path / "plain", **options)
    weights, states = trained(plain)
    watched = made_trainer(tmp_path / "watched", watching(images=8), **options)
    again = trained(watched)
    assert are_equal(again[0], weights)
    assert again[1] == states
    assert max(logged(watched)) == watched.state.global_step
    # What the trainer logs by itself is logged as before.
    losses = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (plain, watched)]
    assert losses[0] == losses[1]


def test_nothing_of_the_model_is_left_changed(tmp_path: Path) -> None:
    trainer = made_trainer(tmp_path, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False})
    model = trainer.model
    base = model.get_base_model()
    model.train()
    # A frozen tower is often kept in evaluation mode, and some train one with a layer of dropout off.
    base.model.vision_tower.eval()
    base.config.use_cache = False
    before = {
        "training": {name: module.training for name, module in model.named_modules()},
        "checkpointing": {name: getattr(module, "gradient_checkpointing", None) for name, module in model.named_modules()},
        "asked": {name: weights.requires_grad for name, weights in model.named_parameters()},
        "config": base.config.to_dict(),
        "generation": base.generation_config.to_dict(),
        "own": {name: set(vars(module)) for name, module in model.named_modules()},
        "buffers": {name: id(buffer) for name, buffer in model.named_buffers()},
    }
    images = load_image_set(Catalog.load().image_set("mnist-mini"), 4)
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        backend = TransformersBackend(find(str(LLAVA), "m", "m"), "cpu", loaded=(base, trainer.processing_class))
        assert backend.generation["max_new_tokens"] == 32
        backend.observe(images.images(images.items), images.question, {"answer"})
        random.random(), np.random.rand(), torch.rand(1)
    after = {
        "training": {name: module.training for name, module in model.named_modules()},
        "checkpointing": {name: getattr(module, "gradient_checkpointing", None) for name, module in model.named_modules()},
        "asked": {name: weights.requires_grad for name, weights in model.named_parameters()},
        "config": base.config.to_dict(),
        "generation": base.generation_config.to_dict(),
        "own": {name: set(vars(module)) - {"_output_capturing_hooks_installed"} for name, module in model.named_modules()},
        "buffers": {name: id(buffer) for name, buffer in model.named_buffers()},
    }
    assert after == before
    assert {True, False} == set(before["training"].values())


def test_an_error_leaves_nothing_changed_either() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2).eval())
    states = chances()
    with pytest.raises(ZeroDivisionError), undisturbed(model):
        print(torch.rand(1), random.random(), np.random.rand(), 1 / 0)
    assert [module.training for module in model.modules()] == [True, True, False]
    assert chances() == states


class Remembers(torch.nn.Module):
    """Keeps what it made for its next forward, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("scale", torch.ones(3), persistent=False)
        self.last = None

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "table"):
            self.table = torch.arange(3.0)
        self.scale = self.table + 1
        self.last = value
        return self.weight * self.table * self.scale


def test_what_a_part_remembers_without_gradients_is_forgotten() -> None:
    module = Remembers()
    with undisturbed(module), torch.inference_mode():
        module(torch.ones(3))
    assert module.last is None
    assert module.scale.tolist() == [1, 1, 1]
    # With what was kept, torch refuses: inference tensors cannot be saved for backward.
    module(torch.ones(3)).sum().backward()
    assert module.weight.grad.tolist() == [0, 2, 6]


def test_what_is_seen_is_what_the_suite_sees_of_the_checkpoint(tmp_path: Path) -> None:
    trainer = made_trainer(tmp_path, watching("emoji-mini", images=40), lora=False, max_steps=4, learning_rate=2e-3)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    images = load_image_set(Catalog.load().image_set("emoji-mini"), 40)
    scorer = AnswerScorer(ScorerContext(images.labels, images.spec.stems))
    readings = []
    for folder in (LLAVA, tmp_path / "saved"):
        backend = TransformersBackend(find(str(folder), "x", "x"), "cpu", "float32", batch_size=5)
        seen = backend.observe(images.images(images.items), images.question, {"answer"})
        readings.append([scorer.score(each, item.label, images.labels) for each, item in zip(seen, images.items, strict=True)])
    base, now = readings
    found = looks(tmp_path)
    assert found["base"]["emoji-mini"] == "".join(
        "-" if score.prediction is None else "r" if score.correct else "w" for score in base
    )
    assert 0 < sum(bool(score.correct) for score in now) < sum(bool(score.correct) for score in base)
    gap = (sum(bool(score.correct) for score in now) - sum(bool(score.correct) for score in base)) / 40
    last = found["looks"][-1]
    assert (last["step"], last["sets"]["emoji-mini"]["gap"]) == (4, pytest.approx(gap))
    assert last["sets"]["emoji-mini"]["no_class"] == sum(score.prediction is None for score in now) / 40


def curves(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars in the event files of a run, by name."""
    events = EventAccumulator(str(next(out.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_forgets_is_stopped_and_its_curves_are_in_tensorboard(tmp_path: Path) -> None:
    said: list[str] = []
    callback = watching("mnist-mini", "emoji-mini", "fashion-mini", trained_on=["fashion-mini"], images=40, stop=True,
                        say=said.append)  # fmt: skip
    trainer = made_trainer(tmp_path, callback, max_steps=12, learning_rate=FORGETFUL, report_to=["tensorboard"])
    trainer.train()
    stopped = trainer.state.global_step
    assert stopped < 12
    found = looks(tmp_path)
    assert found["stopped"] == stopped == found["looks"][-1]["step"]
    failed = [name for name, seen in found["looks"][-1]["sets"].items() if seen["failed"]]
    assert failed
    assert "fashion-mini" not in failed
    assert said[-1] == f"training stops after {stopped} steps: {', '.join(failed)} lost more than 0.05"
    for look in found["looks"][:-1]:
        assert not any(seen["failed"] for seen in look["sets"].values())
    drawn = curves(tmp_path)
    steps = list(range(0, stopped + 1, 2))
    for name in ("mnist-mini", "emoji-mini", "fashion-mini"):
        for figure in FIGURES:
            curve = drawn[f"train/emt/{name}/{figure}"]
            assert [step for step, _ in curve] == steps
            assert [value for _, value in curve[1:]] == pytest.approx(
                [look["sets"][name][figure] for look in found["looks"]], abs=1e-6
            )


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_does_not_forget_is_not_stopped(tmp_path: Path) -> None:
    callback = watching("mnist-mini", "emoji-mini", images=40, stop=True, every=3)
    trainer = made_trainer(tmp_path, callback, max_steps=6, learning_rate=HARMLESS, report_to=["tensorboard"])
    trainer.train()
    assert trainer.state.global_step == 6
    assert looks(tmp_path)["stopped"] is None
    gaps = curves(tmp_path)["train/emt/mnist-mini/gap"]
    assert [step for step, _ in gaps] == [0, 3, 6]
    assert min(value for _, value in gaps) > -0.05


@pytest.mark.thorough
def test_a_fraction_of_an_epoch_is_a_number_of_steps(tmp_path: Path) -> None:
    """Of 8 steps in an epoch: after each quarter of two epochs, and after thirds where the first step behind them ends."""
    options = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": HARMLESS, "per_device_train_batch_size": 2, "first": 16}
    for every, steps in ((0.25, [2, 4, 6, 8, 10, 12, 14, 16]), (1 / 3, [3, 6, 8, 11, 14, 16]), (1.0, [8, 16]), (5.0, [16])):
        out = tmp_path / str(every)
        made_trainer(out, watching("digits-mini", every=every, images=2), **options).train()
        assert [look["step"] for look in looks(out)["looks"]] == steps


@pytest.mark.thorough
def test_a_run_that_goes_on_knows_what_it_began_as(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = trained(made_trainer(tmp_path / "whole", watching(), **saving))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    first = looks(tmp_path / "whole")
    assert [look["step"] for look in first["looks"]] == [2, 4, 6]
    trainer = made_trainer(tmp_path / "cut", watching(), **saving)
    again = trained(trainer, resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert are_equal(again[0], whole[0])
    # The looks after the state that it goes on from are taken again, under their numbers.
    assert looks(tmp_path / "cut") == first
    assert [entry["step"] for entry in trainer.state.log_history if "emt/mnist-mini/gap" in entry] == [0, 2, 4, 6]

    def refused(callback: ForgettingCallback) -> str:
        with pytest.raises(CouldNotRun) as error:
            trained(
                made_trainer(tmp_path / "cut", callback, **saving),
                resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"),
            )
        return str(error.value)

    assert "is of a run with another tolerance (0.05, not 0.1): go on with what that run began with" in refused(
        watching(tolerance=0.1)
    )
    assert "is of a run with another image_sets" in refused(watching(images=20))
    (tmp_path / "cut" / LOOKS).write_text('{"torn')
    assert "cannot be read" in refused(watching())
    (tmp_path / "cut" / LOOKS).unlink()
    text = refused(watching())
    assert "training goes on from step 3, and" in text
    assert "copy it from the folder of the run that began, or train without the callback" in text


@pytest.mark.thorough
def test_the_checkpoint_to_keep_is_spared(tmp_path: Path) -> None:
    """A hundred images without any loss pass, and a forgetful rate ends that: what passed last is the trainer's best."""
    keeping = {"save_strategy": "no", "save_total_limit": 1, "max_steps": 8, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    trainer = made_trainer(tmp_path, watching(images=150, keep=True), HarmfulFrom(4), **keeping, learning_rate=HARMLESS)
    trainer.train()
    found = looks(tmp_path)
    verdicts = [look["sets"]["mnist-mini"]["verdict"] for look in found["looks"]]
    assert verdicts[:2] == ["PASS", "PASS"]
    assert verdicts[-1] != "PASS"
    kept = next(look["step"] for look, verdict in reversed(list(zip(found["looks"], verdicts, strict=True)))
                if verdict == "PASS")  # fmt: skip
    assert found["keep"] == kept
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{kept}")
    assert (tmp_path / f"checkpoint-{kept}" / "adapter_model.safetensors").exists()
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 2


class HarmfulFrom(TrainerCallback):
    """Raises the learning rate a thousandfold after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **rest: Any) -> None:
        if state.global_step >= self._step:
            for group in optimizer.param_groups:
                group["lr"] = FORGETFUL


@pytest.mark.parametrize(
    ("names", "options", "kind", "said"),
    [
        (["mnst-mini"], {}, CatalogError, "mnst-mini"),
        ([], {}, CouldNotRun, "no image set is named to be watched"),
        (["mnist-mini"], {"trained_on": ["fashon-mini"]}, CatalogError, "fashon-mini"),
        (["mnist-mini"], {"every": 0}, CouldNotRun, "every=0 never looks: write a number of steps, such as 100, or a fraction"),
        (["mnist-mini"], {"every": -0.5}, CouldNotRun, "every=-0.5 never looks"),
        (["mnist-mini"], {"every": float("nan")}, CouldNotRun, "every=nan never looks"),
        (["mnist-mini"], {"every": True}, CouldNotRun, "every=True never looks"),
        (["mnist-mini"], {"every": "1/4"}, CouldNotRun, "every='1/4' never looks"),
        (["mnist-mini"], {"images": 0}, CouldNotRun, "images and batch_size are whole numbers of at least 1"),
        (["mnist-mini"], {"batch_size": 2.5}, CouldNotRun, "images and batch_size are whole numbers of at least 1"),
        (["mnist-mini"], {"tolerance": 5}, TolerancesError, "write 0.05"),
        (["mnist-mini"], {"stop": True, "trained_on": ["mnist-mini"]}, CouldNotRun, "stop=True needs an image set outside"),
        (["mnist-mini"], {"keep": True, "trained_on": "mnist-mini"}, CouldNotRun, "keep=True needs an image set outside"),
    ],
)
def test_what_means_nothing_is_one_sentence(names: list[str], options: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as error:
        ForgettingCallback(names, **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


class Shards(TrainerCallback):
    """Has its trainer say that it trains under FSDP."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._trainer.is_fsdp_enabled = True


def test_what_cannot_be_watched_is_one_sentence_before_the_first_step(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    def refused(trainer: Trainer) -> str:
        with pytest.raises(CouldNotRun) as error:
            trainer.train()
        assert trainer.state.global_step == 0
        return str(error.value)

    tokenizer_alone = made_trainer(tmp_path, watching())
    tokenizer_alone.callback_handler.processing_class = tokenizer_alone.processing_class.tokenizer
    assert "no processor that shows images is known to the trainer: hand it over" in refused(tokenizer_alone)
    nothing = made_trainer(tmp_path, watching())
    nothing.callback_handler.processing_class = None
    assert "no processor that shows images" in refused(nothing)
    tiny = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=32)
    text = made_trainer(tmp_path, watching())
    arguments = TrainingArguments(output_dir=str(tmp_path), **ARGUMENTS)
    words = Trainer(LlamaForCausalLM(tiny), arguments, train_dataset=[{"input_ids": [1, 2], "labels": [1, 2]}] * 32,
                    processing_class=text.processing_class, callbacks=[watching()])  # fmt: skip
    assert "a llama sees no image, so it cannot be watched: it has no vision_config" in refused(words)
    sharded = made_trainer(tmp_path)
    sharded.add_callback(Shards(sharded))
    sharded.add_callback(watching())
    assert "under FSDP and DeepSpeed ZeRO-3 no process has the whole model" in refused(sharded)
    best = made_trainer(tmp_path, watching(keep=True), metric_for_best_model="loss")
    assert "keep=True marks the trainer's best checkpoint" in refused(best)


@pytest.mark.thorough
def test_a_processor_is_handed_over_and_not_changed(alone: Any, tmp_path: Path) -> None:
    _, processor = load_model(find(str(LLAVA), "m", "m"), "cpu", "float32")
    processor.tokenizer.pad_token = None
    trainer = made_trainer(tmp_path, watching(processor=processor))
    trainer.callback_handler.processing_class = None
    assert are_equal(trained(trainer)[0], alone[0])
    assert processor.tokenizer.pad_token is None
    assert max(logged(trainer)) == 6


class Breaks(TrainerCallback):
    """Takes from the model, after the fourth step and until the next, the token that stands for an image."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        config = model.get_base_model().config
        self._image = getattr(self, "_image", config.image_token_id)
        config.image_token_id = self._image

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        if state.global_step == 4:
            model.get_base_model().config.image_token_id = -1


@pytest.mark.thorough
def test_a_look_that_fails_costs_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made_trainer(tmp_path, Breaks(), watching()).train()
    assert [look["step"] for look in looks(tmp_path)["looks"]] == [2, 6]
    assert "no look after 4 steps: the processor of the model in training writes 0 image tokens" in caplog.text


def test_it_is_called_by_a_trainer_alone(tmp_path: Path) -> None:
    trainer, callback = made_trainer(tmp_path), watching()
    with pytest.raises(CouldNotRun, match=r"is called by no trainer of transformers: hand it over as Trainer\(callbacks="):
        callback.on_train_begin(trainer.args, trainer.state, trainer.control, trainer.model)
