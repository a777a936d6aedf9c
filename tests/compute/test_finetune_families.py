"""Fine-tuning of many families: the loss of a batch, what a step moves, and that the adapter is a model again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from emt_plugin.catalog import Catalog
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune import FinetuneSettings, finetune
from emt_plugin.finetune.adapters import with_adapter
from emt_plugin.finetune.conversations import Collator
from emt_plugin.models.checkpoint import find
from emt_plugin.models.conversation import answered, conversation
from emt_plugin.models.families import PREFIX_MODELS
from emt_plugin.models.transformers_backend import TransformersBackend
from emt_plugin.models.vision.sight import tower_of
from tests.compute.test_families import SEVERAL, inputs_of, loaded, prompt_of, shared
from tests.families import FAMILIES, each

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_thread")]
ENCODED = ("blip2_t5", "instructblip_t5", "florence2")
# No part of the first is known to be the projector alone; the last take a text with its image in ways of their own.
UNTRAINED = {"paddleocr_vl", "video_llama_3", "gemma4", "ovis2", "janus", "chameleon", "idefics", "git"}
TRAINED = [name for name in FAMILIES if name not in ENCODED and name not in UNTRAINED]
PROJECTOR = re.compile(r"\.(multi_modal_projector|connector|merger|language_projection|image_to_text_projection|aligner)\.")
ASKED, ANSWERS = "What is it?", ["a bird", "an airplane", "a cat"]
PICTURES = SEVERAL[1:4]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


def batch_of(name: str, folder: Path) -> dict[str, Any]:
    backend, processor, model = loaded(name, folder)
    texts = answered(processor, conversation(processor, ASKED, name), ANSWERS, backend.ends, name)
    rows = [{"image": image, "conversation": text} for image, text in zip(PICTURES, texts, strict=True)]
    return Collator(processor, model.config.model_type in PREFIX_MODELS)(rows)


def by_hand(name: str, folder: Path, image: Image.Image, answer: str) -> tuple[float, int]:
    """The summed loss of one conversation by the processor and ``labels=``, and of how many tokens it is."""
    _, processor, model = loaded(name, folder)
    text, before, end = prompt_of(name, ASKED)
    prompt = inputs_of(processor, text, image)
    whole = inputs_of(processor, text, image, suffix=[answer]) if name.startswith("paligemma") else None
    whole = dict(whole or inputs_of(processor, text + before + answer + end, image))
    if name.startswith("instructblip"):
        whole |= {key: prompt[key] for key in ("qformer_input_ids", "qformer_attention_mask")}
    targets = whole["input_ids"].clone()
    targets[:, : shared(prompt["input_ids"][0].tolist(), targets[0].tolist())] = -100
    tokens = int((targets != -100).sum())
    with torch.inference_mode():
        return float(model(**whole, labels=targets).loss) * tokens, tokens


@pytest.mark.parametrize("name", each(TRAINED))
def test_the_loss_of_a_batch_is_that_of_its_conversations(name: str, folder: Path) -> None:
    parts = [by_hand(name, folder, image, answer) for image, answer in zip(PICTURES, ANSWERS, strict=True)]
    batch = batch_of(name, folder)
    assert int((batch["labels"] != -100).sum()) == sum(tokens for _, tokens in parts)
    with torch.inference_mode():
        loss = float(loaded(name, folder)[2](**batch).loss)
    assert loss == pytest.approx(sum(part for part, _ in parts) / sum(tokens for _, tokens in parts), abs=1e-4)


@pytest.mark.parametrize("name", each(TRAINED))
def test_a_step_moves_the_language_model_and_the_projector_alone(name: str, folder: Path) -> None:
    batch = batch_of(name, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder / name, dtype=torch.float32)
    tower = {key: value.clone() for key, value in tower_of(model).state_dict().items() if not PROJECTOR.search(f".{key}")}
    made = with_adapter(model, FinetuneSettings(method="lora"), "base")
    before = {key: value.clone() for key, value in made.state_dict().items()}
    asked = [parameter for parameter in made.parameters() if parameter.requires_grad]
    made.train()
    made(**batch).loss.backward()
    torch.optim.SGD(asked, lr=1.0).step()
    moved = {key for key, value in made.state_dict().items() if not torch.equal(value, before[key])}
    for key in moved:
        inside = ".language_model." in key or ".text_model." in key
        assert (inside and "lora_B" in key) or PROJECTOR.search(key), key
    assert any("lora_B" in key for key in moved)
    assert any(PROJECTOR.search(key) for key in moved)
    after = tower_of(model).state_dict()
    assert tower
    assert all(torch.equal(value, after[key]) for key, value in tower.items())


@pytest.mark.parametrize("name", each(["paligemma", "instructblip_llama", "kosmos2", "qwen2_5_vl", "smolvlm", "mllama"]))
def test_the_adapter_is_a_model_again(name: str, folder: Path, tmp_path: Path) -> None:
    loaded(name, folder)
    catalog = Catalog.load()
    settings = FinetuneSettings(limit=2, epochs=1, batch_size=4, rank=2, dropout=0.0, learning_rate=0.05)
    base, images = catalog.model(str(folder / name)), catalog.image_set("emoji-mini")
    done = finetune(base, images, tmp_path / "run", settings, "float32", "cpu", say=lambda text: None)
    question, pictures = load_image_set(images, 8).question, SEVERAL[:2]
    first, last = (
        TransformersBackend(find(str(folder / name), name, name, adapter=adapter), "cpu", "float32")
        for adapter in (None, str(done.checkpoints[-1]))
    )
    before, after = (
        [seen.label_logprobs for seen in backend.observe(pictures, question, {"answer", "label_logprobs"})]
        for backend in (first, last)
    )
    assert before != after


@pytest.mark.parametrize("name", each(ENCODED))
def test_a_family_that_is_trained_otherwise_is_one_sentence(name: str, folder: Path) -> None:
    why = "it reads a prompt with an encoder of its own, which this training does not do"
    with pytest.raises(CouldNotRun, match=f"cannot be fine-tuned here: {why}$"):
        with_adapter(loaded(name, folder)[2], FinetuneSettings(), "base")
