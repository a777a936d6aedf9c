"""``--model llava`` as on a machine that has fetched everything: caches as the hub's clients leave them, and no network."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import parse_eval_result_entries
from PIL import Image

from emt_plugin.catalog import wordnet_words
from emt_plugin.report.writers.eval_results import write_eval_results
from tests.checkpoints import Recipe, hub_cache, save_encoder, save_llava
from tests.plugin.conftest import Run, in_a_process

Start = Callable[..., Run]

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETS = {
    "ylecun/mnist": ("image", "label", [str(digit) for digit in range(10)], "mnist"),
    "uoft-cs/cifar10": ("img", "label", CIFAR10, "plain_text"),
    "uoft-cs/cifar100": ("img", "fine_label", ["apple", "aquarium_fish", "sweet_pepper", "worm"], "cifar100"),
    "timm/mini-imagenet": ("image", "label", sorted(wordnet_words()), "default"),
}


def cached_dataset(home: Path, hub_id: str) -> None:
    """Put an image set into the datasets cache, as a download would have left it."""
    image, label, names, config = SETS[hub_id]
    generator = np.random.default_rng(len(hub_id))
    rows: dict[str, list[object]] = {image: [], label: []}
    for index in range(24):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
        rows[image].append({"bytes": buffer.getvalue(), "path": None})
        rows[label].append(index % len(names))
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=names)})
    folder = home / "datasets" / hub_id.replace("/", "___") / config / "0.0.0" / ("0" * 40)
    made = datasets.Dataset.from_dict(rows, features=features)
    name = hub_id.split("/")[1]
    made.info.builder_name, made.info.dataset_name, made.info.config_name, made.info.version = "parquet", name, config, "0.0.0"
    made.info.splits = datasets.SplitDict({"test": datasets.SplitInfo("test", 1, 24, dataset_name=name)})
    folder.mkdir(parents=True)
    made.info.write_to_directory(str(folder))
    with datasets.arrow_writer.ArrowWriter(features=features, path=str(folder / f"{name}-test.arrow")) as writer:
        for index in range(24):
            writer.write({key: values[index] for key, values in rows.items()})
        writer.finalize()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    recipe = Recipe("llava-like", image_size=42, patch=14, dtype=torch.float16)
    encoder = save_encoder(recipe, tmp_path / "clip")
    save_llava(recipe, tmp_path / "llava", tower=encoder.vision_model)
    home = tmp_path / "hf"
    hub_cache(home, "openai/clip-vit-large-patch14-336", tmp_path / "clip")
    hub_cache(home, "llava-hf/llava-1.5-7b-hf", tmp_path / "llava")
    for hub_id in SETS:
        cached_dataset(home, hub_id)
    return home


@pytest.mark.thorough
def test_llava_on_the_papers_four_sets_from_the_caches(home: Path, suite: Path) -> None:
    done = in_a_process(
        suite, ("--emt-model", "llava", "-n2"), {"HF_HOME": str(home), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    )
    assert done.code in (1, 7), done.output  # random weights
    pairs = done.record["pairs"]
    assert [pair["status"] for pair in pairs] == ["measured"] * 4, done.output
    assert [pair["image_set"] for pair in pairs] == ["mnist", "cifar10", "cifar100", "miniimagenet"]
    assert all(pair["n"] == 24 for pair in pairs)
    assert {pair["encoder"]["tower"] for pair in pairs} == {"own encoder"}
    by_set = {pair["image_set"]: pair for pair in pairs}
    assert by_set["cifar100"]["labels"] == ["apple", "aquarium fish", "sweet pepper", "worm"]
    assert "in African hunting dog, " in by_set["miniimagenet"]["prompt"]
    assert by_set["miniimagenet"]["prompt"].endswith(", yawl.")

    paths = write_eval_results(done.place)
    assert [str(path.relative_to(done.place)) for path in paths] == [
        f"eval_results/llava-1.5-7b/.eval_results/{name}.yaml" for name in by_set
    ]
    for path, hub_id, pair in zip(paths, SETS, pairs, strict=True):
        (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert (entry.dataset_id, entry.task_id) == (hub_id, "default")
        assert entry.value == round(100 * pair["scores"][0]["correct"] / 24, 2)
        assert "24 of 24 images, split test" in entry.notes


def test_a_set_that_was_not_fetched_could_not_run(home: Path, suite: Path) -> None:
    os.rename(home / "datasets" / "uoft-cs___cifar10", home / "datasets" / "elsewhere")
    done = in_a_process(
        suite, ("--emt-model", "llava", "--emt-image-set", "cifar10"), {"HF_HOME": str(home), "HF_DATASETS_OFFLINE": "1"}
    )
    assert done.code == 3, done.output
    assert "emt fetch cifar10" in done.output
    assert "Traceback" not in done.output
