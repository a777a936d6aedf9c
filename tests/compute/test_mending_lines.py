"""States between a base and what was tuned from it: each weight is base + alpha * (tuned - base), by plain arithmetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from emt_plugin.catalog import bundled_folder
from emt_plugin.errors import CouldNotRun
from emt_plugin.finetune.mending.adapter_line import AdapterLine
from emt_plugin.finetune.mending.weights_line import WeightsLine
from emt_plugin.models.checkpoint import Checkpoint, find
from tests.checkpoints import RECIPES, Recipe, save_llava

LLAVA = bundled_folder() / "models" / "llava-mini"
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"), pytest.mark.usefixtures("one_thread")]
TEXT = r".*language_model.*(q_proj|v_proj)"


def lora(**settings: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TEXT, **settings})


def base(dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForImageTextToText.from_pretrained(LLAVA, dtype=dtype).eval()


def trained(config: Any, folder: Path) -> Path:
    """An adapter of peft's own, with every weight that it trains moved."""
    torch.manual_seed(0)
    made = peft.get_peft_model(base(), config).eval()
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.15 * torch.randn_like(parameter)
    made.save_pretrained(folder)
    return folder


def merged(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of the base with an adapter, by peft and transformers alone."""
    found = peft.PeftModel.from_pretrained(base(), folder).merge_and_unload().state_dict()
    return {name: tensor.clone() for name, tensor in found.items()}


def on_the_line(alpha: float, tuned: dict[str, torch.Tensor], made: dict[str, torch.Tensor]) -> None:
    start = base().state_dict()
    assert start.keys() == tuned.keys() == made.keys()
    moved = 0
    for name, here in start.items():
        expected = here + alpha * (tuned[name] - here)
        assert torch.allclose(made[name], expected, rtol=1e-5, atol=1e-6), name
        moved += not torch.equal(here, tuned[name])
    assert moved


@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(use_rslora=True),
        lora(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 32}),
        lora(bias="all"),
        lora(modules_to_save=["multi_modal_projector"]),
        lora(modules_to_save=["embed_tokens", "lm_head"]),
        lora(target_modules=["patch_embedding", "q_proj"]),
        lora(trainable_token_indices=[5, 6, 7]),
        lora(trainable_token_indices={"embed_tokens": [3, 9]}),
        lora(init_lora_weights="gaussian"),
    ],
    ids=("plain", "rslora", "patterns", "bias", "projector", "head", "patches", "tokens", "tokens by name", "gaussian"),
)
@pytest.mark.parametrize("alpha", [0.3])
def test_an_adapter_at_alpha_is_that_share_of_what_it_adds(tmp_path: Path, config: Any, alpha: float) -> None:
    folder = trained(config, tmp_path / "tuned")
    (tmp_path / "made").mkdir()
    AdapterLine(find(str(LLAVA), "base", "base"), folder, "it").write(alpha, tmp_path / "made")
    on_the_line(alpha, merged(folder), merged(tmp_path / "made"))
    assert (
        load_file(folder / "adapter_model.safetensors").keys()
        == load_file(tmp_path / "made" / "adapter_model.safetensors").keys()
    )


@pytest.mark.parametrize(("run", "alpha"), [("lora-fashion", 0.1), ("lora-emoji", 1.0), ("linear-mnist", 0.7)])
def test_the_bundled_adapters(tmp_path: Path, run: str, alpha: float) -> None:
    folder = max((bundled_folder() / "adapters" / run).iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    AdapterLine(find(str(LLAVA), "base", "base"), folder, "it").write(alpha, tmp_path)
    on_the_line(alpha, merged(folder), merged(tmp_path))


def test_by_its_own_tensors_and_settings(tmp_path: Path) -> None:
    """Each weight's LoRA worked out by hand, and the projector's tensors."""
    folder = bundled_folder() / "adapters" / "lora-fashion" / "checkpoint-564"
    AdapterLine(find(str(LLAVA), "base", "base"), folder, "it").write(0.25, tmp_path)
    tuned, made = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path))
    before, after = (json.loads((place / "adapter_config.json").read_text()) for place in (folder, tmp_path))
    start = load_file(LLAVA / "model.safetensors")
    for name in (name for name in tuned if "lora_A" in name):
        other = name.replace("lora_A", "lora_B")
        added = tuned[other].float() @ tuned[name].float() * before["lora_alpha"] / before["r"]
        less = made[other].float() @ made[name].float() * after["lora_alpha"] / after["r"]
        assert torch.allclose(less, 0.25 * added, rtol=1e-6, atol=1e-9)
    for name in (name for name in tuned if "projector" in name):
        here = start[name.removeprefix("base_model.model.model.")].float()
        assert torch.allclose(made[name], here + 0.25 * (tuned[name].float() - here), rtol=1e-6, atol=1e-9)
    assert after["lora_alpha"] == 4
    assert {key for key in before if before[key] != after[key]} == {"lora_alpha"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (lora(use_dora=True), "use_dora"),
        (lora(init_lora_weights="pissa"), "init_lora_weights"),
        (lora(layer_replication=[[0, 2], [1, 4]]), "layer_replication"),
        (peft.IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[]), "of the kind IA3"),
        (peft.LoHaConfig(r=4, target_modules=TEXT), "of the kind LOHA"),
    ],
)
def test_what_does_not_scale_is_refused(tmp_path: Path, config: Any, said: str) -> None:
    plain = trained(lora(), tmp_path)
    content = {**json.loads((plain / "adapter_config.json").read_text()), **config.to_dict()}
    (plain / "adapter_config.json").write_text(json.dumps({**content, "target_modules": TEXT}, default=list))
    with pytest.raises(CouldNotRun, match=rf"the adapter it .*{said}.*does not scale.*merge_and_unload") as refused:
        AdapterLine(find(str(LLAVA), "base", "base"), plain, "it")
    assert str(refused.value).count(". ") == 0


def test_an_adapter_with_a_part_that_the_base_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = trained(lora(modules_to_save=["multi_modal_projector"]), tmp_path)
    path = folder / "adapter_model.safetensors"
    name = "base_model.model.model.multi_modal_projector.linear_1.bias"
    save_file({**load_file(path), name: torch.zeros(3)}, path)
    with pytest.raises(CouldNotRun, match=r"does not fit its base: .*linear_1.bias has another shape"):
        AdapterLine(find(str(LLAVA), "base", "base"), folder, "it")
    save_file({**load_file(path), name.replace("linear_1", "linear_7"): torch.zeros(3)}, path)
    with pytest.raises(CouldNotRun, match="does not fit its base"):
        AdapterLine(find(str(LLAVA), "base", "base"), folder, "it")


def checkpoint(folder: Path) -> Checkpoint:
    return find(str(folder), folder.name, folder.name)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_whole_weights(tmp_path: Path, recipe: Recipe) -> None:
    for name, seed in (("base", 0), ("tuned", 1)):
        save_llava(recipe, tmp_path / name, seed=seed)
    (tmp_path / "made").mkdir()
    WeightsLine(checkpoint(tmp_path / "base"), checkpoint(tmp_path / "tuned")).write(0.3, tmp_path / "made")
    start, tuned, made = (tensors(tmp_path / name) for name in ("base", "tuned", "made"))
    assert start.keys() == tuned.keys() == made.keys()
    for name, here in start.items():
        expected = here.double() + 0.3 * (tuned[name].double() - here.double())
        assert made[name].dtype == recipe.dtype
        assert torch.equal(made[name], expected.to(recipe.dtype)) or torch.allclose(
            made[name].double(), expected, rtol={torch.float32: 1e-6, torch.float16: 1e-3}.get(recipe.dtype, 8e-3), atol=1e-6
        )
    files = {path.name for path in (tmp_path / "tuned").iterdir()}
    assert {path.name for path in (tmp_path / "made").iterdir()} == files
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "made", dtype="auto")
    assert loaded.dtype == recipe.dtype
    for name, tensor in loaded.state_dict().items():
        assert torch.isfinite(tensor).all(), name


@pytest.mark.parametrize(("stored", "other"), [(torch.float32, torch.bfloat16), (torch.float16, torch.float32)])
def test_of_two_dtypes_the_finer_is_stored_and_named(tmp_path: Path, stored: torch.dtype, other: torch.dtype) -> None:
    save_llava(Recipe("base", dtype=stored), tmp_path / "base", seed=0)
    save_llava(Recipe("tuned", dtype=other), tmp_path / "tuned", seed=1)
    (tmp_path / "made").mkdir()
    WeightsLine(checkpoint(tmp_path / "base"), checkpoint(tmp_path / "tuned")).write(0.6, tmp_path / "made")
    start, tuned, made = (tensors(tmp_path / name) for name in ("base", "tuned", "made"))
    for name, here in start.items():
        assert torch.allclose(made[name], here.float() + 0.6 * (tuned[name].float() - here.float()), rtol=1e-6, atol=1e-7)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "made", dtype="auto").dtype == torch.float32


def test_at_one_it_is_the_tuned_model_to_the_last_bit(tmp_path: Path) -> None:
    for name, seed in (("base", 0), ("tuned", 1)):
        save_llava(Recipe("plain"), tmp_path / name, seed=seed)
    (tmp_path / "made").mkdir()
    WeightsLine(checkpoint(tmp_path / "base"), checkpoint(tmp_path / "tuned")).write(1.0, tmp_path / "made")
    tuned, made = tensors(tmp_path / "tuned"), tensors(tmp_path / "made")
    assert all(torch.equal(made[name], tensor) for name, tensor in tuned.items())


HEAD, EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


@pytest.mark.parametrize("stores_head", ["base", "tuned", "both", "neither"])
def test_a_tied_head_stays_tied_however_it_is_stored(tmp_path: Path, stores_head: str) -> None:
    for name, factor in (("base", 1.0), ("tuned", 1.5)):
        shutil.copytree(LLAVA, tmp_path / name)
        found = {key: factor * tensor.float() for key, tensor in load_file(LLAVA / "model.safetensors").items()}
        if stores_head in (name, "both"):
            found[HEAD] = found[EMBEDDING].clone()
        save_file(found, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "made").mkdir()
    WeightsLine(checkpoint(tmp_path / "base"), checkpoint(tmp_path / "tuned")).write(0.5, tmp_path / "made")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "made", dtype=torch.float32)
    embedding = 1.25 * load_file(LLAVA / "model.safetensors")[EMBEDDING].float()
    assert torch.allclose(model.lm_head.weight, embedding, rtol=1e-6)
    assert torch.allclose(model.get_input_embeddings().weight, embedding, rtol=1e-6)


def test_a_head_that_only_the_base_has_is_not_lost(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        shutil.copytree(LLAVA, tmp_path / name)
    found = load_file(LLAVA / "model.safetensors")
    save_file({**found, HEAD: found[EMBEDDING] + 1}, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CouldNotRun, match="its head is its embedding, and the base's is not"):
        WeightsLine(checkpoint(tmp_path / "base"), checkpoint(tmp_path / "tuned"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: {**found, EMBEDDING: found[EMBEDDING][:-1].clone()},
            r"embed_tokens.weight has the shape \[405, 160\] in it",
        ),
        (lambda found: {name: tensor for name, tensor in found.items() if name != EMBEDDING}, "it lacks .*embed_tokens.weight"),
        (lambda found: {**found, "extra.weight": torch.zeros(2)}, "it has a tensor extra.weight"),
        (lambda found: {**found, EMBEDDING: found[EMBEDDING].to(torch.int8)}, "is stored as I8 in it and F16 in the base"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    shutil.copytree(LLAVA, tmp_path / "tuned")
    path = tmp_path / "tuned" / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(CouldNotRun, match=said):
        WeightsLine(checkpoint(LLAVA), checkpoint(tmp_path / "tuned"))
