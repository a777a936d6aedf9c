"""The bundled zoo: its script gives the committed content, it is as small as it says, and it loads plainly."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import datasets
import pytest
import torch
from transformers import AutoModel, AutoModelForImageTextToText

from emt_plugin.catalog import bundled_folder
from emt_plugin.data.image_set import pixel_hash

ZOO = bundled_folder()
MODELS = ("clip-mini", "llava-mini", "llava-mini-forgot")


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("build_image_sets", ZOO / "build_image_sets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["mnist-mini", "fashion-mini", "digits-mini", "emoji-mini"])
def test_the_script_gives_the_committed_images(builder: ModuleType, name: str, tmp_path: Path) -> None:
    if name == "fashion-mini" and not builder.FASHION.exists():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    if name == "emoji-mini" and not (builder.EMOJI_FONT.exists() and builder.EMOJI_NAMES.exists()):
        pytest.skip("needs Debian's fonts-noto-color-emoji and unicode-data")
    builder.main([name], tmp_path)
    for split in ("train", "test"):
        made, committed = (
            datasets.load_dataset("parquet", data_files=str(folder / name / f"{split}.parquet"), split="train")
            for folder in (tmp_path, ZOO / "image_sets")
        )
        assert made.features == committed.features
        assert list(made["label"]) == list(committed["label"])
        assert [pixel_hash(image) for image in made["image"]] == [pixel_hash(image) for image in committed["image"]]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in (ZOO / "image_sets").rglob("*.parquet")) <= 8 * 2**20
    assert sum(path.stat().st_size for path in (ZOO / "models").rglob("*.safetensors")) <= 16 * 2**20


@pytest.mark.parametrize("name", MODELS)
def test_models_load_plainly_in_half_precision(name: str) -> None:
    kind = AutoModel if name == "clip-mini" else AutoModelForImageTextToText
    model, info = kind.from_pretrained(ZOO / "models" / name, output_loading_info=True)
    assert model.dtype == torch.float16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("folder", [*(f"models/{name}" for name in MODELS), "image_sets/mnist-mini", "image_sets/fashion-mini",
                                    "image_sets/digits-mini", "image_sets/emoji-mini"])  # fmt: skip
def test_origin_and_licence_stand_beside_each(folder: str) -> None:
    card = (ZOO / folder / "README.md").read_text(encoding="utf-8")
    assert "icence" in card
