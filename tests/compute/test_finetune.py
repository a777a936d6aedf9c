"""Continued fine-tuning: what trains, what is learned, and that no kill and no full disk costs more than it must."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from emt_plugin.catalog import Catalog, Question, bundled_folder
from emt_plugin.data import load_image_set, load_train
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune import FinetuneSettings, finetune
from emt_plugin.finetune.adapters import with_adapter
from emt_plugin.finetune.conversations import Collator, Conversations
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend, end_tokens, load_model
from tests.checkpoints import CHATML_LIKE, Recipe, save_llava

LLAVA = bundled_folder() / "models" / "llava-mini"
SIGLIP = Recipe("siglip-qwen", tower="siglip", text="qwen2", image_size=32, patch=8, template=CHATML_LIKE, group_heads=2)
SMALL = ("--limit", "20", "--epochs", "2", "--rank", "2", "--batch-size", "20", "--learning-rate", "2e-3",
         "--save-fractions", "1/5", "--resume-every", "2")  # fmt: skip
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def command(out: Path, *more: str) -> list[str]:
    given = ["--model", "llava-mini", "--image-set", "fashion-mini", "--out", str(out), "--device", "cpu"]
    return [sys.executable, "-m", "emt_plugin.cli", "finetune", *given, *SMALL, *more]


def run(out: Path, *more: str, **rest: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *more), capture_output=True, text=True, env=ENVIRONMENT, check=False, **rest)


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def steps(out: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in out.glob("checkpoint-*"))


def as_far(one: Path, other: Path) -> float:
    mine, theirs = trained(one), trained(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted: 200 images in 10 steps, twice, and one checkpoint within the first epoch."""
    out = tmp_path_factory.mktemp("finetune") / "whole"
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert steps(out) == [2, 10, 20]
    assert f"pytest benchmarks --model llava-mini --checkpoint '{out}/checkpoint-*'" in done.stdout
    return out


@pytest.fixture(scope="module", params=["llava-mini", "siglip-qwen"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    folder = LLAVA if request.param == "llava-mini" else save_llava(SIGLIP, tmp_path_factory.mktemp("siglip") / "model")
    return lambda: load_model(find(str(folder), request.param, "x"), "cpu", "float32")


def test_lora_trains_every_linear_layer_of_the_language_model_and_nothing_of_the_tower(model: Callable[[], Any]) -> None:
    base, _ = model()
    linear = {f"model.language_model.{name}" for name, module in base.model.language_model.named_modules()
              if isinstance(module, torch.nn.Linear)}  # fmt: skip
    made = with_adapter(base, FinetuneSettings("lora", rank=2), "base")
    asked = [name for name, weights in made.named_parameters() if weights.requires_grad]
    adapted = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in asked if ".lora_" in name}
    assert adapted == linear
    assert len(linear) == 7 * base.config.text_config.num_hidden_layers
    assert all(".lora_" in name or ".multi_modal_projector." in name for name in asked)
    assert not [name for name in asked if "vision" in name or "head" in name]


def test_linear_trains_the_projector_alone(model: Callable[[], Any]) -> None:
    base, _ = model()
    size = sum(weights.numel() for weights in base.model.multi_modal_projector.parameters())
    made = with_adapter(base, FinetuneSettings("linear"), "base")
    asked = {name: weights for name, weights in made.named_parameters() if weights.requires_grad}
    assert sum(weights.numel() for weights in asked.values()) == size
    assert all(".multi_modal_projector." in name for name in asked)
    lora = [weights for name, weights in made.named_parameters() if "lora_B" in name]
    assert len(lora) == 1
    assert not lora[0].any()


def test_the_loss_sees_the_answers_alone_and_the_question_lists_no_label(model: Callable[[], Any]) -> None:
    base, processor = model()
    train = load_train(load_image_set(Catalog.load().image_set("emoji-mini")), 2)
    assert train is not None
    rows = Conversations(train, processor, end_tokens(base, processor.tokenizer), "model")
    batch = Collator(processor)([rows[index] for index in range(len(rows))])
    ends = ("<|im_end|>", "<|end|>", "</s>")
    for row, item in enumerate(train.items):
        answer = batch["labels"][row]
        said = processor.tokenizer.decode(answer[answer != -100], skip_special_tokens=False).strip()
        label = train.labels[item.label]
        # The token that ends the answer is learned too.
        assert [said.removesuffix(end) for end in ends if said.endswith(end)] == [
            f"The object is {'an' if label[0] in 'aeiou' else 'a'} {label}."
        ]
        text = processor.tokenizer.decode(batch["input_ids"][row], skip_special_tokens=False)
        assert "What is the object in the image?" in text
        assert "Please only answer" not in text
        # Padding is no part of the conversation.
        assert not (batch["attention_mask"][row] == 0).logical_and(answer != -100).any()


def test_each_checkpoint_is_an_adapter_with_its_projector_and_no_path_of_its_base(whole: Path) -> None:
    for step, epoch in ((2, 0.2), (10, 1.0), (20, 2.0)):
        folder = whole / f"checkpoint-{step}"
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "llava-mini"
        assert any("multi_modal_projector" in name for name in trained(folder))
        made = json.loads((folder / "emt.json").read_text())
        assert (made["step"], made["epoch"], made["image_set"], made["method"]) == (step, epoch, "fashion-mini", "lora")
        assert made["base_weights"] == find(str(LLAVA), "x", "x").fingerprint()
        assert str(LLAVA) not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert not list(whole.glob(".saving*"))
    losses = [json.loads((whole / f"checkpoint-{step}" / "emt.json").read_text())["loss"] for step in (2, 10, 20)]
    assert losses[0] > losses[1] > losses[2]


def test_checkpoints_have_no_state_of_the_optimiser_and_nothing_else_is_left(whole: Path) -> None:
    assert not list(whole.rglob("optimizer.pt"))
    assert sorted(path.name for path in whole.iterdir() if path.is_dir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-20"]


@pytest.mark.thorough
def test_killed_and_resumed_it_ends_with_the_same_weights(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    under_way = subprocess.Popen(command(out), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # In the middle of an epoch, with dropout on, between two checkpoints.
    while not list(out.glob(".resume/checkpoint-[4-8]")) and under_way.poll() is None:
        time.sleep(0.005)
    under_way.send_signal(signal.SIGKILL)
    under_way.wait()
    assert steps(out) in ([2], [2, 10])
    full_disk(out, tmp_path / "full")
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert "going on from checkpoint-" in done.stdout
    assert steps(out) == [2, 10, 20]
    for step in steps(out):
        assert as_far(out / f"checkpoint-{step}", whole / f"checkpoint-{step}") <= 1e-6
        # To the mean loss, which began before the kill.
        assert (out / f"checkpoint-{step}" / "emt.json").read_text() == (whole / f"checkpoint-{step}" / "emt.json").read_text()
    assert not (out / ".resume").exists()
    again = run(out)
    assert "is complete: checkpoint-20" in again.stdout


def full_disk(killed: Path, out: Path) -> None:
    """The same run going on where no large file can be written any more."""
    shutil.copytree(killed, out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    most = 50_000
    done = run(out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert " cannot be saved in " in done.stderr
    assert "earlier checkpoints are untouched: make room and run the same command again" in done.stderr
    after = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert after == before


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_plain_transformers_and_peft_give_the_same_answers(whole: Path) -> None:
    from peft import PeftModel

    images = load_image_set(Catalog.load().image_set("emoji-mini"), 24)
    question = images.question
    pictures = images.images(images.items)
    folder = whole / "checkpoint-20"
    backend = TransformersBackend(find(str(LLAVA), "x", "x", adapter=str(folder)), "cpu", "float32")
    mine = [seen.answer for seen in backend.observe(pictures, question, {"answer"})]
    base = AutoModelForImageTextToText.from_pretrained(LLAVA, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, folder).eval()
    processor = AutoProcessor.from_pretrained(LLAVA, backend="pil")
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.prompt}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    theirs = []
    for picture in pictures:
        inputs = processor(text=text, images=picture, return_tensors="pt")
        made = plain.generate(**inputs, max_new_tokens=32, do_sample=False)
        theirs.append(processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert mine == theirs
    released = TransformersBackend(find(str(LLAVA), "x", "x"), "cpu", "float32").observe(pictures, question, {"answer"})
    assert mine != [seen.answer for seen in released]


def test_in_half_precision_the_adapter_stays_beside_its_layers(whole: Path) -> None:
    folder = whole / "checkpoint-20"
    images = load_image_set(Catalog.load().image_set("fashion-mini"), 24)
    pictures = images.images(images.items)
    exact, half = (
        TransformersBackend(find(str(LLAVA), "x", "x", adapter=str(folder)), "cpu", dtype) for dtype in ("float32", "bfloat16")
    )
    assert any("lora_A" in name for name, _ in half.model.named_parameters())
    assert not any("lora_A" in name for name, _ in exact.model.named_parameters())
    seen = [backend.observe(pictures, images.question, {"answer", "label_logprobs"}) for backend in (exact, half)]
    same = sum(one.answer == other.answer for one, other in zip(*seen, strict=True))
    assert same >= 20
    assert all(one.label_logprobs is not None for one in seen[1])


@pytest.mark.thorough
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    more = ("--dropout", "0", "--epochs", "1", "--save-fractions", "1/2")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "--module", "emt_plugin.cli", *command(tmp_path / "two", *more)[3:]]  # fmt: skip
    two = subprocess.run(launch, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("evaluate them") == 1
    one = run(tmp_path / "one", *more)
    assert one.returncode == 0, one.stderr
    assert steps(tmp_path / "one") == steps(tmp_path / "two") == [5, 10]
    assert as_far(tmp_path / "one" / "checkpoint-10", tmp_path / "two" / "checkpoint-10") <= 1e-5


@pytest.mark.parametrize("content", ["[1]", '"text"', '{"torn'])
def test_a_folder_with_strange_settings_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "finetune.json").write_text(content)
    with pytest.raises(CouldNotRun, match=r"cannot be used .*; name another folder with --out"):
        quick(tmp_path)


def quick(out: Path, **settings: Any) -> dict[str, Any]:
    """Two steps in this process; the last checkpoint's provenance."""
    given = {"limit": 4, "epochs": 2, "batch_size": 20, "rank": 2, "dropout": 0.0, **settings}
    dtype = given.pop("dtype", "float32")
    done = finetune(*specs(), out, FinetuneSettings(**given), dtype, "cpu", say=lambda text: None)
    return json.loads((done.checkpoints[-1] / "emt.json").read_text())


@pytest.mark.thorough
def test_several_forwards_make_one_step(tmp_path: Path) -> None:
    whole = quick(tmp_path / "whole")
    parts = quick(tmp_path / "parts", device_batch_size=5)
    # The last step of an epoch need not be full: 40 images in steps of 12, each of three forwards.
    ragged = [quick(tmp_path / f"ragged-{size}", batch_size=12, device_batch_size=size) for size in (12, 4)]
    again = quick(tmp_path / "again", gradient_checkpointing=True)
    for other, folder in ((parts, "parts"), (again, "again")):
        assert other["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert as_far(tmp_path / "whole" / "checkpoint-4", tmp_path / folder / "checkpoint-4") <= 1e-5
    assert ragged[0]["step"] == ragged[1]["step"] == 8
    assert ragged[1]["loss"] == pytest.approx(ragged[0]["loss"], rel=1e-4)


def test_in_half_precision_what_is_trained_stays_whole(tmp_path: Path) -> None:
    made = quick(tmp_path, dtype="bfloat16")
    assert made["settings"]["dtype"] == "bfloat16"
    weights = trained(tmp_path / "checkpoint-4")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)


def test_a_run_that_cannot_go_on_says_so(tmp_path: Path) -> None:
    quick(tmp_path / "run")
    # The last checkpoint is there, so nothing is left to do; a copy under a name of one's own is in nobody's way.
    shutil.copytree(tmp_path / "run" / "checkpoint-2", tmp_path / "run" / "checkpoint-best")
    assert quick(tmp_path / "run")["step"] == 4
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    with pytest.raises(CouldNotRun, match=r"holds checkpoint-2 and nothing that training could go on from"):
        quick(tmp_path / "run")


def test_what_a_killed_run_left_half_saved_is_in_no_checkpoint(tmp_path: Path) -> None:
    left = tmp_path / "run" / ".saving" / "checkpoint-2"
    left.mkdir(parents=True)
    (left / "rng_state_5.pth").write_bytes(b"torn")
    quick(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("rng_state_5.pth"))


def test_one_process_with_several_gpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: 2))
    with pytest.raises(CouldNotRun, match=r"one process sees 2 GPUs: start one for each, accelerate launch --num_processes 2"):
        quick(tmp_path)


def test_memory_that_runs_out_names_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **rest: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.Trainer.training_step", full)
    with pytest.raises(CouldNotRun, match=r"with 20 conversations in each forward: run it again with a smaller --device-batch"):
        quick(tmp_path)
    monkeypatch.undo()
    # Nothing was saved yet, so the folder takes other settings.
    assert quick(tmp_path, device_batch_size=10)["step"] == 4


def test_adapters_of_other_kinds_are_refused(tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    base, _ = load_model(find(str(LLAVA), "x", "x"), "cpu", "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=2, num_layers=4, token_dim=160, num_attention_heads=4
        )
        get_peft_model(base, config).save_pretrained(tmp_path)
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(CouldNotRun, match="is of the kind PROMPT_TUNING, not read here") as refused:
            load_model(find(str(LLAVA), "mine", "mine", adapter=str(tmp_path)), "cpu", dtype)
        assert "\n" not in str(refused.value)
    (tmp_path / "non_lora_trainables.bin").write_bytes(b"")
    with pytest.raises(CouldNotRun, match=r"non_lora_trainables\.bin beside it was trained too"):
        find(str(LLAVA), "mine", "mine", adapter=str(tmp_path))


def specs(model: str = "llava-mini", image_set: str = "fashion-mini") -> tuple[Any, Any]:
    catalog = Catalog.load()
    return catalog.model(model), catalog.image_set(image_set)


def test_a_diverged_run_stops_in_one_sentence(tmp_path: Path) -> None:
    broken = shutil.copytree(LLAVA, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight") and "vision" not in name)
    weights[name] = weights[name] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    settings = FinetuneSettings(limit=4, epochs=1, batch_size=20, rank=2)
    with pytest.raises(CouldNotRun, match=r"the loss is nan after 0 steps: training has diverged") as stopped:
        finetune(*specs(str(broken)), tmp_path / "out", settings, say=lambda text: None)
    assert "\n" not in str(stopped.value)
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_folder_belongs_to_one_run(whole: Path) -> None:
    with pytest.raises(
        CouldNotRun, match=r"holds a run with another batch_size \(20, not 16\); name another folder with --out"
    ):
        finetune(*specs(), whole, FinetuneSettings(batch_size=16), say=lambda text: None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (FinetuneSettings(epochs=0), "0 epochs train nothing"),
        (FinetuneSettings(save_fractions=(0.5, 1.5)), "in \\(0, 1\\)"),
        (FinetuneSettings(learning_rate=2.0), "a learning rate of 2.0 trains nothing"),
        (FinetuneSettings(rank=0), "rank and alpha"),
        (FinetuneSettings(batch_size=10, device_batch_size=4), "a batch size of 10 is not made of 1 processes with 4"),
        (FinetuneSettings(dropout=1.0), "a dropout of 1.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: FinetuneSettings, said: str, tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=said):
        finetune(*specs(), tmp_path, settings, say=lambda text: None)


def test_a_model_without_a_projector_is_refused() -> None:
    from transformers import FuyuConfig, FuyuForCausalLM

    config = FuyuConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, vocab_size=64, patch_size=4,
    )  # fmt: skip
    with pytest.raises(CouldNotRun, match="a fuyu cannot be fine-tuned here: it has no part named multi_modal_projector, "):
        with_adapter(FuyuForCausalLM(config), FinetuneSettings(), "base")


def test_an_image_set_without_a_training_split_is_refused(tmp_path: Path) -> None:
    only = tmp_path / "only.parquet"
    shutil.copy(bundled_folder() / "image_sets" / "emoji-mini" / "test.parquet", only)
    with pytest.raises(CouldNotRun, match="has no split 'train' with all its classes to fine-tune on"):
        finetune(*specs(image_set=str(only)), tmp_path / "out", say=lambda text: None)


def tampered(folder: Path, out: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    shutil.copytree(folder, out)
    save_file(change(trained(folder)), out / "adapter_model.safetensors")
    return out


def test_adapters_that_do_not_fit_are_refused_in_one_sentence(whole: Path, tmp_path: Path) -> None:
    folder = whole / "checkpoint-20"

    def refused(out: Path) -> str:
        with pytest.raises(CouldNotRun) as error:
            load_model(find(str(LLAVA), "mine", "mine", adapter=str(out)), "cpu", "float32")
        assert "\n" not in str(error.value)
        return str(error.value)

    no_projector = tampered(folder, tmp_path / "a", lambda all: {key: w for key, w in all.items() if "projector" not in key})
    assert "mine lacks the weights of its multi_modal_projector" in refused(no_projector)
    half_lora = tampered(folder, tmp_path / "b", lambda all: {key: w for key, w in all.items() if "lora_B" not in key})
    assert "the adapter mine does not fit its base: it lacks" in refused(half_lora)
    wider = tampered(
        folder, tmp_path / "c", lambda all: {name: w.repeat(1, 2) if w.dim() == 2 else w for name, w in all.items()}
    )
    assert "the adapter mine does not fit its base" in refused(wider)
    (tmp_path / "d").mkdir()
    shutil.copy(folder / "adapter_config.json", tmp_path / "d")
    assert "has no adapter_model.safetensors" in refused(tmp_path / "d")
    (tmp_path / "b" / "adapter_model.safetensors").write_bytes(b"torn")
    assert "cannot be read" in refused(tmp_path / "b")


def test_an_adapter_of_other_weights_is_refused(whole: Path) -> None:
    forgot = find(str(bundled_folder() / "models" / "llava-mini-forgot"), "x", "x", adapter=str(whole / "checkpoint-20"))
    with pytest.raises(CouldNotRun, match="was trained on other weights than those of"):
        forgot.refuse_other_base(json.loads((whole / "checkpoint-20" / "emt.json").read_text())["base_weights"])


def test_questions_without_a_label_list_are_asked_whole() -> None:
    spec = Catalog.load().image_set("mnist")
    assert spec.tuning_question(("0", "1")) == "What is the number in the image?"
    assert spec.tuned_answer("1") == "The number is 1."
    # The paper's own sentence, brackets and all.
    assert Catalog.load().image_set("cifar10").tuned_answer("airplane") == "The object is a(n) airplane."
    assert isinstance(spec.question(("0", "1")), Question)
