"""The callback with other trainers, other families and several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from emt_plugin.catalog import bundled_folder
from emt_plugin.finetune import FinetuneSettings
from emt_plugin.finetune.adapters import with_adapter
from emt_plugin.finetune.conversations import Collator, Conversations
from emt_plugin.models.checkpoint import find
from emt_plugin.models.families import PREFIX_MODELS
from emt_plugin.models.transformers_backend import end_tokens, load_model
from tests.compute.test_callback import (
    ARGUMENTS,
    FORGETFUL,
    HARMLESS,
    are_equal,
    curves,
    logged,
    looks,
    trained,
    training_images,
    watching,
)
from tests.families import each, save_family

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
LLAVA = bundled_folder() / "models" / "llava-mini"
STEPS = 4


def sft_trainer(out: Path, *callbacks: Any, **options: Any) -> Trainer:
    """TRL's, of llava-mini with LoRA and dropout, on conversations with an image as TRL has them."""
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    set_seed(1)
    model, processor = load_model(find(str(LLAVA), "m", "m"), "cpu", "float32")
    images = training_images()
    items = images.items[:48]
    question = images.spec.tuning_question(images.labels)
    rows = Dataset.from_list([
        {
            "images": [picture],
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": images.spec.tuned_answer(images.labels[item.label])},
            ],
        }
        for item, picture in zip(items, images.images(items), strict=True)
    ])  # fmt: skip
    lora = LoraConfig(
        r=4, lora_alpha=16, lora_dropout=0.1, target_modules=r".*language_model\..*\.(q_proj|v_proj|up_proj|down_proj)"
    )
    arguments = SFTConfig(output_dir=str(out), max_length=None, **ARGUMENTS | {"max_steps": STEPS} | options)
    return SFTTrainer(
        model, arguments, train_dataset=rows, processing_class=processor, peft_config=lora, callbacks=list(callbacks)
    )


def test_trls_trainer_ends_in_equal_weights_and_keeps_its_own_figures(tmp_path: Path) -> None:
    options = {"logging_strategy": "steps", "logging_steps": 3, "max_steps": 6, "report_to": ["tensorboard"]}
    plain = sft_trainer(tmp_path / "plain", **options)
    weights, states = trained(plain)
    watched = sft_trainer(tmp_path / "watched", watching("mnist-mini", "emoji-mini"), **options)
    again = trained(watched)
    assert are_equal(again[0], weights)
    assert again[1] == states
    assert sorted(logged(watched)) == [0, 2, 4, 6]
    # TRL gathers figures of training between two logs, and forgets them at each.
    figures = [
        [(entry["step"], entry["loss"], entry["mean_token_accuracy"]) for entry in trainer.state.log_history if "loss" in entry]
        for trainer in (plain, watched)
    ]
    assert [step for step, *_ in figures[0]] == [3, 6]
    assert figures[0] == figures[1]
    drawn = curves(tmp_path / "watched")
    for name in ("mnist-mini", "emoji-mini"):
        for figure in ("gap", "low", "high", "no_class"):
            assert [step for step, _ in drawn[f"train/emt/{name}/{figure}"]] == [0, 2, 4, 6]


def test_trls_trainer_is_stopped_where_it_forgets_alone(tmp_path: Path) -> None:
    forgetful = sft_trainer(tmp_path / "forgetful", watching(images=40, stop=True), learning_rate=FORGETFUL, max_steps=12)
    forgetful.train()
    assert forgetful.state.global_step == looks(tmp_path / "forgetful")["stopped"] < 12
    harmless = sft_trainer(tmp_path / "harmless", watching(images=40, stop=True), learning_rate=HARMLESS)
    harmless.train()
    assert harmless.state.global_step == STEPS


def family_trainer(folder: Path, name: str, out: Path, *callbacks: Any) -> Trainer:
    set_seed(1)
    model, processor = load_model(find(str(folder), name, name), "cpu", "float32")
    conversations = Conversations(training_images(), processor, end_tokens(model, processor.tokenizer), name)
    rows = torch.utils.data.Subset(conversations, range(32))
    made = with_adapter(model, FinetuneSettings("lora", rank=2, dropout=0.1), str(folder))
    arguments = TrainingArguments(output_dir=str(out), **ARGUMENTS | {"max_steps": 4, "per_device_train_batch_size": 8})
    collator = Collator(processor, model.config.model_type in PREFIX_MODELS)
    return Trainer(made, arguments, collator, rows, processing_class=processor, callbacks=list(callbacks))


@pytest.mark.parametrize(
    "name", each(["qwen2_5_vl", "smolvlm", "paligemma", "gemma3", "mllama", "llava_next", "internvl", "qwen3_5", "kosmos2"])
)
def test_another_family_ends_in_equal_weights(name: str, tmp_path: Path) -> None:
    folder = save_family(name, tmp_path / name)
    weights, states = trained(family_trainer(folder, name, tmp_path / "plain"))
    watched = family_trainer(folder, name, tmp_path / "watched", watching(images=8))
    again = trained(watched)
    assert are_equal(again[0], weights)
    assert again[1] == states
    assert sorted(logged(watched)) == [0, 2, 4]


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    given = ["finetune", "--model", "llava-mini", "--image-set", "fashion-mini", "--device", "cpu", "--limit", "4",
             "--epochs", "1", "--rank", "2", "--batch-size", "20", "--dropout", "0", "--learning-rate", "2e-3",
             "--watch", "mnist-mini", "emoji-mini", "--watch-images", "25", "--watch-every", "1"]  # fmt: skip
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "--module", "emt_plugin.cli"]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for name, how in (("one", ["-m", "emt_plugin.cli"]), ("two", launch)):
        command = [sys.executable, *how, *given, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("points since step 0") == 2
    one, two = (json.loads((tmp_path / name / "emt-looks.json").read_text()) for name in ("one", "two"))
    assert one["base"] == two["base"]
    assert {name: len(signs) for name, signs in two["base"].items()} == {"mnist-mini": 25, "emoji-mini": 25}
    assert one["looks"] == two["looks"]
