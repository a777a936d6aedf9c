"""What is on disk: sizes, hashes, and one sentence for each thing that cannot be loaded."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend
from tests.checkpoints import RECIPES, hub_cache, save_encoder, save_llava, weights

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_llava(RECIPES[0], tmp_path / "model")


@pytest.mark.parametrize("name", ["plain", "sharded-fp16", "mistral-bf16"])
def test_bytes_are_those_of_the_tensors(name: str, tmp_path: Path) -> None:
    folder = save_llava(BY_NAME[name], tmp_path)
    if name == "sharded-fp16":
        assert len(weights(folder)) > 1
    state = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).state_dict()
    elements = sum(tensor.numel() for key, tensor in state.items() if "position_ids" not in key)
    checkpoint = find(str(folder), "m", "m")
    assert checkpoint.bytes_needed("float32") == 4 * elements
    assert checkpoint.bytes_needed("bfloat16") == 2 * elements
    assert checkpoint.bytes_needed(None) == BY_NAME[name].dtype.itemsize * elements


def test_stored_dtype(tmp_path: Path) -> None:
    assert find(str(save_llava(BY_NAME["mistral-bf16"], tmp_path)), "m", "m").stored_dtype() == "bfloat16"


def test_fingerprint_is_that_of_the_content(folder: Path) -> None:
    lines = [f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}\n" for path in weights(folder)]
    assert find(str(folder), "m", "m").fingerprint() == sha256("".join(lines).encode()).hexdigest()


def test_a_hub_id_in_the_cache_needs_no_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    hub_cache(tmp_path, "someone/model", folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find("someone/model", "m", "m").config["model_type"] == "llava"


def test_a_hub_id_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"not on this machine and the hub cannot be reached .* emt fetch their-name"):
        find("someone/nothing-here", "m", "their-name")


def broken(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    match how:
        case "no config":
            (folder / "config.json").unlink()
        case "adapter":
            (folder / "config.json").rename(folder / "adapter_config.json")
        case "torn config":
            (folder / "config.json").write_text("{")
        case "original llava":
            (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlavaLlamaForCausalLM"]}))
        case "projector":
            (folder / "mm_projector.bin").write_bytes(b"")
        case "pickled":
            weights(folder)[0].rename(folder / "pytorch_model.bin")
        case "no weights":
            weights(folder)[0].unlink()
        case "no processor":
            (folder / "processor_config.json").unlink()
        case "text model":
            config.pop("vision_config")
            (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no config", "my-model is no checkpoint: .* has no config.json$"),
        ("adapter", r"it is an adapter: merge it into its base first"),
        ("torn config", "cannot be read"),
        ("original llava", "original LLaVA format; convert it .*convert_llava_weights_to_hf"),
        ("projector", "original LLaVA format"),
        ("pickled", r"pickled weights \(pytorch_model.bin\).*convert them to safetensors"),
        ("no weights", r"has no \*.safetensors file \(pickled weights are not loaded"),
        ("no processor", r"has no processor.*AutoProcessor.from_pretrained\(BASE\).save_pretrained"),
        ("text model", r"is no multimodal LLM: its config.json \(llama\) has no vision_config"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, how: str, says: str) -> None:
    broken(folder, how)
    with pytest.raises(CouldNotRun, match=says) as caught:
        find(str(folder), "my-model", "m")
    assert "\n" not in str(caught.value)


def test_weights_that_transformers_refuses_are_one_sentence(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CouldNotRun, match="my-model cannot be loaded by transformers") as caught:
        TransformersBackend(find(str(folder), "my-model", "m"), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_never_filled_in_at_random(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(weights(folder)[0])
    del state["multi_modal_projector.linear_1.weight"]
    save_file(state, weights(folder)[0], {"format": "pt"})
    with pytest.raises(CouldNotRun, match=r"lacks the weights of 1 tensors .*linear_1.weight among them"):
        TransformersBackend(find(str(folder), "my-model", "m"), "cpu")


def test_an_encoder_needs_no_vision_config_of_an_mllm(tmp_path: Path) -> None:
    save_encoder(RECIPES[0], tmp_path)
    assert find(str(tmp_path), "e", "e", encoder=True).config["model_type"] == "clip"
