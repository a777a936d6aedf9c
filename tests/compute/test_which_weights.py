"""The weights that are evaluated are those that a person would say were named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emt_plugin.catalog import Catalog, CatalogError, bundled_folder
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation import Evaluator
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import load_model
from emt_plugin.settings import Compute, Scoring, Settings, Storing
from emt_plugin.store import hashes

LLAVA = bundled_folder() / "models" / "llava-mini"
FORGOT = bundled_folder() / "models" / "llava-mini-forgot"
ADAPTER = bundled_folder() / "adapters" / "lora-emoji" / "checkpoint-2"
LAYERS = r"\.(down_proj|gate_proj|k_proj|o_proj|q_proj|up_proj|v_proj)"


def copied(source: Path, folder: Path) -> Path:
    """A copy whose files are the test's own."""
    return Path(shutil.copytree(source, folder, copy_function=shutil.copyfile))


def test_a_model_with_an_adapter_left_beside_it_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    folder = copied(LLAVA, tmp_path / "merged")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(ADAPTER / file, folder / file)
    spec = Catalog.load().model(str(folder))
    assert spec.adapter is None
    with pytest.raises(CouldNotRun, match=r"whole model with an adapter beside it .* take .* away if .* of their own") as said:
        find(spec.source, spec.id, spec.name)
    assert "\n" not in str(said.value)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CouldNotRun, match="whole model with an adapter beside it"):
        find(spec.source, spec.id, spec.name)
    (folder / "adapter_config.json").unlink()
    assert find(spec.source, spec.id, spec.name).adapter is None


def test_an_adapter_with_a_stray_configuration_is_an_adapter(tmp_path: Path) -> None:
    folder = copied(ADAPTER, tmp_path / "mine")
    shutil.copyfile(LLAVA / "config.json", folder / "config.json")
    spec = Catalog.load().model(str(folder))
    assert (spec.adapter, Path(spec.source)) == (str(folder), LLAVA)
    with pytest.raises(CouldNotRun, match="mine is an adapter, not a model: name its own base with --model BASE"):
        find(str(folder), "mine", "mine")


def older_names(folder: Path, target: str) -> Path:
    """The adapter as peft saved it when LLaVA's language model was not yet inside a ``model``."""
    tensors = {
        name.replace("model.model.language_model.layers", "model.language_model.model.layers").replace(
            "base_model.model.model.multi_modal_projector", "base_model.model.multi_modal_projector"
        ): tensor
        for name, tensor in load_file(ADAPTER / "adapter_model.safetensors").items()
    }
    copied(ADAPTER, folder)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": target}))
    return folder


def test_an_adapter_by_older_names_gives_the_same_weights(tmp_path: Path) -> None:
    folder = older_names(tmp_path / "older", rf".*language_model.*{LAYERS}")
    older, _ = load_model(find(str(LLAVA), "m", "m", adapter=str(folder)), "cpu", "float32")
    today, _ = load_model(find(str(LLAVA), "m", "m", adapter=str(ADAPTER)), "cpu", "float32")
    base, _ = load_model(find(str(LLAVA), "m", "m"), "cpu", "float32")
    mine, theirs, before = (model.state_dict() for model in (older, today, base))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert any(not torch.equal(mine[name], before[name]) for name in before)


def test_older_names_that_lack_a_tensor_are_still_refused(tmp_path: Path) -> None:
    folder = older_names(tmp_path / "older", rf".*language_model.*{LAYERS}")
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CouldNotRun, match="does not fit its base: it lacks 1 tensors"):
        load_model(find(str(LLAVA), "m", "m", adapter=str(folder)), "cpu", "float32")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is cut off or damaged; copy it again"),
        (pointer, "is a pointer of Git LFS, not the weights; fetch them with: git lfs pull"),
        (lambda path: path.write_bytes(b""), "is cut off or damaged"),
        (lambda path: path.write_bytes(b"\xff" * 64), "is cut off or damaged"),
        (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"), "is cut off or damaged"),
    ],
    ids=["cut", "lfs", "empty", "noise", "list"],
)
def test_weights_that_are_none_are_one_sentence(tmp_path: Path, damage: Callable[[Path], Any], says: str) -> None:
    folder = copied(LLAVA, tmp_path / "model")
    damage(folder / "model.safetensors")
    with pytest.raises(CouldNotRun, match=says):
        find(str(folder), "m", "m")


def test_weights_overwritten_in_place_with_their_mtime_restored_are_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashes.time.time
    monkeypatch.setattr("emt_plugin.store.hashes.time.time", lambda: real() + 60)
    weights = copied(LLAVA, tmp_path / "model") / "model.safetensors"
    catalog = Catalog.load()
    settings = Settings(compute=Compute(limit=60), store=Storing(tmp_path / "store"))

    def verdict() -> Any:
        evaluator = Evaluator(settings, None, print)
        model = evaluator.model(catalog.model(str(tmp_path / "model"), "clip-mini"))
        pair = evaluator.measure(model, evaluator.image_set(catalog.image_set("emoji-mini")))
        evaluator.close()
        return pair

    first = verdict()
    before = weights.stat()
    content = (FORGOT / "model.safetensors").read_bytes()
    assert len(content) == before.st_size
    with weights.open("r+b") as file:
        file.write(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = verdict()
    assert second.replay is not None
    assert second.replay.replayed == 0
    assert second.scores[0].correct < first.scores[0].correct


@pytest.mark.thorough
def test_a_references_scores_are_read_by_the_tower_of_each_model(tmp_path: Path) -> None:
    other = copied(bundled_folder() / "models" / "clip-mini", tmp_path / "other-clip")
    tensors = load_file(other / "model.safetensors")
    for name in tensors:
        if name.startswith("text_model.encoder"):
            tensors[name] = tensors[name].flip(0)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    catalog = Catalog.load()
    image_set, reference = catalog.image_set("emoji-mini"), catalog.model("llava-mini")

    def right_by_reference(*encoders: str) -> list[int]:
        """Of the reference's answers, those that each model's own text tower puts nearest to the label."""
        settings = Settings(
            catalog=catalog, reference=reference, compute=Compute(limit=60), scoring=Scoring(("text-embedding",))
        )
        evaluator = Evaluator(settings, None, print)
        found = []
        for encoder in encoders:
            model = evaluator.model(catalog.model("llava-mini-forgot", encoder))
            pair = evaluator.measure(model, evaluator.image_set(image_set))
            comparison = next(c for c in pair.comparisons if c.reference.kind == "model")
            found.append(comparison.n11 + comparison.n01)
        evaluator.close()
        return found

    alone = right_by_reference("clip-mini") + right_by_reference(str(other))
    assert alone[0] != alone[1]
    assert right_by_reference("clip-mini", str(other)) == alone


def test_an_adapter_of_an_adapter_is_still_refused(tmp_path: Path) -> None:
    folder = copied(ADAPTER, tmp_path / "second")
    (folder / "emt.json").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(ADAPTER)}))
    with pytest.raises(CatalogError, match="was trained on another adapter"):
        Catalog.load().model(str(folder))
