"""The encoder against transformers used one image at a time, and the check that it is the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from emt_plugin.catalog import Catalog
from emt_plugin.data import load_image_set
from emt_plugin.encoders import ZeroShotEncoder, check_tower
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend
from tests.checkpoints import RECIPES, Recipe, save_encoder, save_llava

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def plain_class(folder: Path, image: Image.Image, captions: list[str], padding: Any) -> int:
    """One image, all captions, the model's own logits."""
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = processor.tokenizer(captions, padding=padding, return_tensors="pt")
    inputs = {"input_ids": texts["input_ids"], **processor.image_processor([image], return_tensors="pt")}
    if padding is True:
        inputs["attention_mask"] = texts["attention_mask"]
    with torch.inference_mode():
        return int(model(**inputs).logits_per_image.argmax())


@pytest.mark.parametrize(("recipe", "padding"), [("plain", True), ("siglip-qwen", "max_length")])
def test_classes_equal_the_models_own_logits(recipe: str, padding: Any, tmp_path: Path) -> None:
    save_encoder(BY_NAME[recipe], tmp_path, seed=3)
    image_set = load_image_set(Catalog.load().image_set("emoji-mini"), limit=24)
    images = image_set.images(image_set.items)
    captions = [image_set.spec.caption(label) for label in image_set.labels]
    encoder = ZeroShotEncoder(find(str(tmp_path), "e", "e", encoder=True), "cpu")
    expected = [plain_class(tmp_path, image, captions, padding) for image in images]
    assert encoder.classify(images[:7], captions) + encoder.classify(images[7:], captions) == expected


def test_the_bundled_encoder_one_image_at_a_time() -> None:
    catalog = Catalog.load()
    folder = Path(catalog.encoder_source("clip-mini"))
    image_set = load_image_set(catalog.image_set("fashion-mini"), limit=20)
    images = image_set.images(image_set.items)
    captions = [image_set.spec.caption(label) for label in image_set.labels]
    encoder = ZeroShotEncoder(find(str(folder), "e", "e", encoder=True), "cpu")
    assert encoder.classify(images, captions) == [plain_class(folder, image, captions, True) for image in images]


def check(model: Path, encoder: Path) -> tuple[bool, str]:
    mllm, clip = find(str(model), "m", "m"), find(str(encoder), "e", "e", encoder=True)
    loaded = ZeroShotEncoder(clip, "cpu").model
    found = check_tower(TransformersBackend(mllm, "cpu").model, loaded, (mllm.stored_dtype(), clip.stored_dtype()))
    return found.own, found.words


@pytest.mark.parametrize("recipe", ["plain", "siglip-qwen", "sharded-fp16", "mistral-bf16"])
def test_the_own_encoder_is_recognised_across_dtypes(recipe: str, tmp_path: Path) -> None:
    made = BY_NAME[recipe]
    encoder = save_encoder(made, tmp_path / "encoder")
    save_llava(made, tmp_path / "model", tower=encoder.vision_model)
    assert check(tmp_path / "model", tmp_path / "encoder") == (True, "own encoder")


def test_a_tower_that_tuning_changed_is_found_out(tmp_path: Path) -> None:
    encoder = save_encoder(RECIPES[0], tmp_path / "encoder")
    with torch.no_grad():
        encoder.vision_model.encoder.layers[1].mlp.fc1.weight[0, 0] += 0.01
    save_llava(RECIPES[0], tmp_path / "model", tower=encoder.vision_model)
    own, words = check(tmp_path / "model", tmp_path / "encoder")
    assert not own
    assert words.startswith("tower changed in tuning, or wrong encoder: 1 of ")


def test_an_encoder_of_another_shape_is_the_wrong_one(tmp_path: Path) -> None:
    save_encoder(Recipe("other", tower="siglip", image_size=32, patch=8), tmp_path / "encoder")
    save_llava(RECIPES[0], tmp_path / "model")
    own, words = check(tmp_path / "model", tmp_path / "encoder")
    assert not own
    assert words.startswith("wrong encoder")


def test_the_bundled_models_carry_clip_minis_tower() -> None:
    catalog = Catalog.load()
    for name in ("llava-mini", "llava-mini-forgot"):
        spec = catalog.model(name)
        assert check(Path(spec.source), Path(str(spec.encoder))) == (True, "own encoder")


def test_a_model_without_a_text_tower_is_refused() -> None:
    from emt_plugin.catalog import bundled_folder

    with pytest.raises(CouldNotRun, match="has no text tower"):
        ZeroShotEncoder(find(str(bundled_folder() / "models" / "llava-mini"), "llava", "m", encoder=True), "cpu")
