"""Several encoders whose towers have one shape: the weights decide, and only what is on this machine is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emt_plugin.catalog import Catalog
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation import Evaluator
from emt_plugin.evaluation.encoder_choice import chosen
from emt_plugin.models.checkpoint import find
from emt_plugin.settings import Compute, Settings
from tests.checkpoints import CHATML_LIKE, Recipe, save_encoder, save_llava

SIGLIP = Recipe("siglip", tower="siglip", text="qwen2", image_size=32, patch=8, template=CHATML_LIKE, group_heads=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tuned", [False, True])
def test_the_nearest_weights_are_taken(dtype: torch.dtype, tuned: bool, tmp_path: Path) -> None:
    sources = [str(tmp_path / name) for name in ("first", "second")]
    towers = [save_encoder(SIGLIP, Path(source), seed, dtype).vision_model for seed, source in enumerate(sources)]
    for tower, source in zip(towers, sources, strict=True):
        if tuned:
            for parameter in tower.parameters():
                parameter.data.mul_(1.01)
        model = find(str(save_llava(SIGLIP, tmp_path / f"of-{Path(source).name}", tower=tower.float())), "m", "m")
        assert chosen(model, sources) == chosen(model, sources[::-1]) == source


def test_a_model_finds_its_own_encoder_among_two_of_one_shape(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "second")):
        tower = save_encoder(SIGLIP, tmp_path / name, seed).vision_model
    save_llava(SIGLIP, tmp_path / "mine", tower=tower)
    shape = {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8}
    catalog = replace(Catalog.load(), towers={str(tmp_path / name): shape for name in ("first", "second")})
    evaluator = Evaluator(Settings(catalog=catalog, compute=Compute(limit=6)), None, print)
    image_set = evaluator.image_set(catalog.image_set("emoji-mini"))
    pair = evaluator.measure(evaluator.model(catalog.model(str(tmp_path / "mine"))), image_set)
    assert pair.encoder is not None
    assert (pair.encoder.id, pair.encoder.found_by, pair.encoder.tower) == ("second", "tower shape", "own encoder")


def test_only_encoders_on_this_machine_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    model = find(str(save_llava(SIGLIP, tmp_path / "mine")), "mine", "mine")
    elsewhere = ("google/siglip-so400m-patch14-384", "google/siglip2-so400m-patch14-384")
    save_encoder(SIGLIP, tmp_path / "here")
    assert chosen(model, (*elsewhere, str(tmp_path / "here"))) == str(tmp_path / "here")
    assert chosen(model, elsewhere[:1]) == elsewhere[0]
    with pytest.raises(CouldNotRun) as refused:
        chosen(model, elsewhere)
    assert str(refused.value) == (
        "by the shape of its tower the encoder of mine is google/siglip-so400m-patch14-384 or "
        "google/siglip2-so400m-patch14-384, and none of them is on this machine: where there is a network, fetch them with: "
        "emt fetch google/siglip-so400m-patch14-384 google/siglip2-so400m-patch14-384; or name one with --emt-encoder"
    )


@pytest.mark.parametrize("elsewhere", [("openai/a",), ("openai/a", "google/b")])
def test_a_shape_without_an_encoder_here_names_the_other_references(
    elsewhere: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_llava(SIGLIP, tmp_path / "mine")
    catalog = replace(Catalog.load(), towers={name: {"model_type": "siglip_vision_model"} for name in elsewhere})
    evaluator = Evaluator(Settings(catalog=catalog), None, print)
    with pytest.raises(CouldNotRun) as refused:
        evaluator.model(catalog.model(str(tmp_path / "mine")))
    said = str(refused.value)
    assert f"emt fetch {' '.join(elsewhere)}" in said
    assert said.endswith(
        "; or, where its tower was tuned, compare with --emt-reference probe or --emt-reference BASE (the name, folder or hub "
        "id of the model that it was tuned from)"
    )
    assert "\n" not in said
