"""Architectures beside LLaVA: labels are ranked as ``labels=`` would, packed where that is right, plainly where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    MllamaConfig,
    MllamaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from emt_plugin.catalog import Question
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.abilities import with_cache
from emt_plugin.models.cache import roomy_cache
from emt_plugin.models.checkpoint import find
from emt_plugin.models.ranking.packed import Prompt, can_be_packed, scored_one_by_one, scored_packed
from emt_plugin.models.ranking.trie import Candidates
from emt_plugin.models.transformers_backend import TransformersBackend
from tests.checkpoints import CHATML_LIKE, Recipe, save_encoder, save_llava

TEXT = {"vocab_size": 200, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
          "patch_size": 7}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
IMAGE = 190
ANSWERS = Candidates(0, 0, ((10, 11, 2), (12, 2), (10, 13, 14, 2)))
Inputs = Callable[[torch.Tensor, int], dict[str, Any]]


def gemma3() -> tuple[Any, torch.Tensor, Inputs]:
    config = Gemma3Config(
        text_config={**TEXT, "head_dim": 16, "sliding_window": 6}, vision_config=VISION, mm_tokens_per_image=4,
        image_token_index=IMAGE, boi_token_index=191, eoi_token_index=192,
    )  # fmt: skip
    pixels = torch.randn(1, 3, 28, 28)
    ids = torch.tensor([[1, 5, 191, *[IMAGE] * 4, 192, 7, 8, 9]])
    return (
        Gemma3ForConditionalGeneration(config), ids,
        lambda whole, _: {"pixel_values": pixels, "token_type_ids": (whole == IMAGE).long()},
    )  # fmt: skip


def paligemma() -> tuple[Any, torch.Tensor, Inputs]:
    config = PaliGemmaConfig(
        text_config={**TEXT, "model_type": "gemma", "head_dim": 16}, image_token_index=IMAGE, projection_dim=64,
        vision_config={**VISION, "model_type": "siglip_vision_model", "projection_dim": 64},
    )  # fmt: skip
    pixels = torch.randn(1, 3, 28, 28)
    ids = torch.tensor([[*[IMAGE] * 16, 1, 7, 8, 9]])

    def inputs(whole: torch.Tensor, prompt: int) -> dict[str, Any]:
        return {"pixel_values": pixels, "token_type_ids": (torch.arange(whole.shape[1]) >= prompt).long()[None]}

    return PaliGemmaForConditionalGeneration(config), ids, inputs


def mllama() -> tuple[Any, torch.Tensor, Inputs]:
    vision = {key: value for key, value in VISION.items() if key != "num_attention_heads"}
    config = MllamaConfig(
        text_config={**TEXT, "cross_attention_layers": [1], "rope_parameters": ROPE}, image_token_index=IMAGE,
        vision_config={**vision, "attention_heads": 2, "num_global_layers": 1, "vision_output_dim": 64,
                       "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]]},
    )  # fmt: skip
    pixels = torch.randn(1, 1, 1, 3, 28, 28)

    def inputs(whole: torch.Tensor, _: int) -> dict[str, Any]:
        return {
            "pixel_values": pixels,
            "aspect_ratio_ids": torch.tensor([[1]]),
            "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
            "cross_attention_mask": torch.ones(1, whole.shape[1], 1, 1, dtype=torch.long),
        }

    return MllamaForConditionalGeneration(config), torch.tensor([[1, IMAGE, 7, 8, 9]]), inputs


def qwen2_vl() -> tuple[Any, torch.Tensor, Inputs]:
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]}, "max_position_embeddings": 512},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
                       "spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=IMAGE, video_token_id=191, vision_start_token_id=192, vision_end_token_id=193,
    )  # fmt: skip
    pixels, grid = torch.randn(64, 96), torch.tensor([[1, 8, 8]])
    ids = torch.tensor([[5, 6, 192, *[IMAGE] * 16, 193, 7, 8, 9]])
    return (
        Qwen2VLForConditionalGeneration(config), ids,
        lambda whole, _: {"pixel_values": pixels, "image_grid_thw": grid, "mm_token_type_ids": (whole == IMAGE).int()},
    )  # fmt: skip


@pytest.mark.parametrize(("make", "packs"), [(gemma3, True), (paligemma, True), (mllama, True), (qwen2_vl, True)])
@torch.inference_mode()
def test_labels_are_ranked_as_the_loss_of_the_whole_text_says(make: Any, packs: bool) -> None:
    torch.manual_seed(0)
    model, ids, inputs = make()
    torch.nn.init.normal_(model.lm_head.weight, std=0.3)
    model.eval()
    expected = []
    for answer in ANSWERS.answers:
        whole = torch.cat([ids, torch.tensor([answer])], dim=1)
        targets = whole.clone()
        targets[:, : ids.shape[1]] = -100
        given = inputs(whole, ids.shape[1])
        loss = model(input_ids=whole, attention_mask=torch.ones_like(whole), labels=targets, **given).loss
        expected.append(-float(loss) * len(answer))
    prompt = Prompt(ids, torch.ones_like(ids), inputs(ids, ids.shape[1]))
    assert scored_one_by_one(model, prompt, ANSWERS, range(3))[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert can_be_packed(model) is packs
    if packs:
        cache = roomy_cache(16)
        model.model(
            input_ids=ids, attention_mask=prompt.mask, use_cache=True, **with_cache(model.model, cache), **prompt.inputs()
        )
        assert scored_packed(model, cache, prompt, ANSWERS)[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-4)


IMAGES = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (30, 28, 3), dtype=np.uint8)) for n in range(3)]
LABELS = ("airplane", "air", "bird")
QUESTION = Question("What is it? airplane, air, bird.", LABELS, LABELS)


def test_a_language_model_with_other_layers_answers_and_ranks_in_rows(tmp_path: Path) -> None:
    folder = save_llava(Recipe("conv", text="lfm2", template=CHATML_LIKE), tmp_path)
    said: list[str] = []
    backend = TransformersBackend(find(str(folder), "my-model", "m"), "cpu", "float32", say=said.append)
    seen = backend.observe(IMAGES, QUESTION, {"answer", "label_logprobs"})
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = f"<|im_start|>user\n<image>{QUESTION.prompt}<|im_end|>\n<|im_start|>assistant\n"
    for image, one in zip(IMAGES, seen, strict=True):
        inputs = processor(text=prompt, images=image, return_tensors="pt")
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        length = inputs["input_ids"].shape[1]
        assert one.answer == processor.decode(made[0, length:], skip_special_tokens=True).strip()
        for label, score in zip(LABELS, one.label_logprobs or (), strict=True):
            whole = processor(text=f"{prompt}{label}<|im_end|>", images=image, return_tensors="pt")
            targets = whole["input_ids"].clone()
            targets[:, :length] = -100
            with torch.inference_mode():
                loss = model(**whole, labels=targets).loss
            assert score == pytest.approx(-float(loss) * (targets.shape[1] - length), abs=1e-4)
    assert said == []
    assert (backend.packs, backend.expands) == (False, True)


def test_a_tower_without_a_head(tmp_path: Path) -> None:
    recipe = Recipe("headless", tower="siglip", text="qwen2", image_size=32, patch=8, template=CHATML_LIKE, head=False)
    encoder = save_encoder(recipe, tmp_path / "encoder")
    folder = save_llava(recipe, tmp_path / "model", tower=encoder.vision_model)
    backend = TransformersBackend(find(str(folder), "m", "m"), "cpu", "float32")
    assert all(seen.answer is not None for seen in backend.observe(IMAGES, QUESTION, {"answer", "features"}))


def test_a_model_whose_numbers_overflow_says_so(tmp_path: Path) -> None:
    backend = TransformersBackend(find(str(save_llava(Recipe("plain"), tmp_path)), "my-model", "m"), "cpu", "float32")
    backend.model.lm_head.weight.data.fill_(float("inf"))
    with pytest.raises(CouldNotRun, match="my-model gives no finite probabilities in float32"):
        backend.observe(IMAGES, QUESTION, {"label_logprobs"})


def test_a_model_that_takes_no_answer_is_one_sentence(tmp_path: Path) -> None:
    backend = TransformersBackend(find(str(save_llava(Recipe("plain"), tmp_path)), "my-model", "m"), "cpu", "float32")
    forward = backend.model.forward

    def refuses(*arguments: Any, use_cache: bool = True, **options: Any) -> Any:
        if not use_cache:
            raise RuntimeError("The size of tensor a (8) must match the size of tensor b (5)")
        return forward(*arguments, use_cache=use_cache, **options)

    backend.model.forward = refuses
    with pytest.raises(CouldNotRun, match=r"labels cannot be ranked by my-model, a llava \(RuntimeError: The size of tensor"):
        backend.observe(IMAGES, QUESTION, {"label_logprobs"})
