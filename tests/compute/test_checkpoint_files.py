"""Which of a folder's weight files are a checkpoint's, what its template says when it fails, and what is not installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emt_plugin.catalog import Catalog, bundled_folder
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import find
from emt_plugin.models.processors import missing_package
from emt_plugin.models.transformers_backend import TransformersBackend

LLAVA = bundled_folder() / "models" / "llava-mini"
TEMPLATE = (LLAVA / "chat_template.jinja").read_text(encoding="utf-8")


def observed(folder: Path, generation: str = "own") -> list[Any]:
    loaded = load_image_set(Catalog.load().image_set("fashion-mini"), 3)
    backend = TransformersBackend(find(str(folder), "it", "it"), "cpu", "float32", 3, generation=generation)
    return backend.observe(loaded.images(loaded.items), loaded.question, {"answer", "label_logprobs"})


def sharded(folder: Path, shards: int = 3) -> Path:
    """A copy of llava-mini in several files with an index."""
    shutil.copytree(LLAVA, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    of_file = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name].contiguous() for name in names[number::shards]}, folder / file, {"format": "pt"})
        of_file.update(dict.fromkeys(names[number::shards], file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": of_file}))
    return folder


def single_too(folder: Path) -> None:
    tensors = load_file(LLAVA / "model.safetensors")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(zeros, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (single_too, r"holds two sets of weights \(model.safetensors and the files that .*index.json names\)"),
        (lambda folder: (folder / "model-00002-of-00003.safetensors").unlink(), r"lacks 1 of its 3 weight files \(model-00002"),
        (lambda folder: (folder / "model.safetensors.index.json").unlink(), "neither model.safetensors nor .*index.json"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "index.json is cut off or damaged"),
    ],
)
def test_files_that_are_not_one_checkpoint_are_refused(tmp_path: Path, change: Callable[[Path], Any], says: str) -> None:
    folder = sharded(tmp_path / "it")
    change(folder)
    with pytest.raises(CouldNotRun, match=says) as caught:
        observed(folder)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_in_several_files_is_the_same(tmp_path: Path) -> None:
    as_it_is, in_files = observed(LLAVA), observed(sharded(tmp_path / "it"))
    assert [seen.answer for seen in in_files] == [seen.answer for seen in as_it_is]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% if messages[0]['role'] != 'system' %}{{ raise_exception('it needs a system turn') }}{% endif %}",
            "it needs a system",
        ),
        ("{% if tools | length > 0 %}{% endif %}", "TypeError"),
        ("{% for message in messages %}", "TemplateSyntaxError"),
        ("{{ written_by() }}", "'written_by' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_fails_is_not_said_to_drop_the_image(tmp_path: Path, template: str, says: str) -> None:
    folder = Path(shutil.copytree(LLAVA, tmp_path / "it"))
    (folder / "chat_template.jinja").write_text(template + TEMPLATE, encoding="utf-8")
    with pytest.raises(CouldNotRun, match=rf"template of it fails on a user's turn with an image \(.*{says}"):
        observed(folder)


def test_labels_are_ranked_where_a_checkpoint_searches_with_beams(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(LLAVA, tmp_path / "it"))
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "num_beams": 2}))
    for one, other in zip(observed(folder, "checkpoint"), observed(LLAVA), strict=True):
        assert one.label_logprobs == pytest.approx(other.label_logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("message", "package"),
    [
        ("quantization requires bitsandbytes: `pip install -U bitsandbytes>=0.46.1`", "bitsandbytes"),
        ("run `pip install --upgrade -q optimum`", "optimum"),
        ("pip install timm", "timm"),
    ],
)
def test_the_package_that_is_missing_is_named(message: str, package: str) -> None:
    assert missing_package(ImportError(message)) == package
