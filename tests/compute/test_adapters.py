"""Adapters of many kinds: what is loaded computes what peft's own model does, or one sentence says why it is not loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from emt_plugin.catalog import Catalog, bundled_folder
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.adapter import with_adapter

LLAVA = bundled_folder() / "models" / "llava-mini"
# What peft says while a model is made for training.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TEXT = r".*language_model.*(q_proj|v_proj)"


def lora(**settings: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TEXT, **settings})


def base() -> Any:
    return AutoModelForImageTextToText.from_pretrained(LLAVA, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def inputs() -> Any:
    loaded = load_image_set(Catalog.load().image_set("fashion-mini"), 1)
    processor = AutoProcessor.from_pretrained(LLAVA, backend="pil")
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return processor(text=[text], images=[loaded.images(loaded.items)], return_tensors="pt")


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**inputs).logits[0, -1].float()
    return found


def trained(config: Any, folder: Path) -> Any:
    """Peft's own model, every weight that it trains moved, and saved."""
    torch.manual_seed(0)
    made = peft.get_peft_model(base(), config).eval()
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.15 * torch.randn_like(parameter)
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(use_rslora=True),
        lora(use_dora=True),
        lora(bias="all"),
        lora(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 32}),
        lora(modules_to_save=["multi_modal_projector"]),
        lora(modules_to_save=["lm_head"]),
        lora(modules_to_save=["embed_tokens", "lm_head"]),
        lora(target_modules=["embed_tokens", "q_proj"]),  # the embedding is the head's weight too
        lora(target_modules=["lm_head", "q_proj"]),
        lora(target_modules=["patch_embedding"]),
        lora(trainable_token_indices=[5, 6, 7]),
        lora(lora_bias=True),
        peft.IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[]),
        peft.LoHaConfig(r=4, target_modules=TEXT),
    ],
    ids=(
        "plain",
        "rslora",
        "dora",
        "bias",
        "patterns",
        "projector",
        "head",
        "embedding and head",
        "tied embedding",
        "tied head",
        "patches",
        "tokens",
        "lora bias",
        "ia3",
        "loha",
    ),
)
def test_an_adapter_computes_what_it_was_trained_to(tmp_path: Path, inputs: Any, config: Any) -> None:
    expected = logits(trained(config, tmp_path), inputs)
    assert (logits(base(), inputs) - expected).abs().max() > 0.1
    assert logits(with_adapter(base(), tmp_path, "it"), inputs) == pytest.approx(expected, abs=2e-3)


def edited(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: dict(list(tensors.items())[: len(tensors) // 2]),
        lambda tensors: {name: tensor for name, tensor in tensors.items() if "lora_B" not in name},
        lambda tensors: {**tensors, "base_model.model.nowhere.base_layer.weight": torch.zeros(2)},
    ],
)
def test_an_adapter_in_part_or_of_another_model_is_refused(tmp_path: Path, change: Any) -> None:
    trained(lora(), tmp_path)
    edited(change, tmp_path)
    with pytest.raises(CouldNotRun, match="the adapter it does not fit its base"):
        with_adapter(base(), tmp_path, "it")
