"""Every family from the command line: a pair has a verdict against a probe, a base and a named encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from emt_plugin.catalog import bundled_folder
from emt_plugin.models.vision.sight import tower_of
from tests.families import FAMILIES, save_family
from tests.plugin.conftest import Run

pytestmark = pytest.mark.usefixtures("one_thread")
Start = Callable[..., Run]
BASE = "llava"
# Their classes give no features of an image apart from the text.
WITHOUT_FEATURES = {"mllama", "kosmos2", "idefics", "git"}
COMMON = ("--emt-image-set", "digits-mini", "--emt-limit", "8", "--emt-probe-images", "2", "--emt-scorer", "answer,likelihood")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("family_runs")


def saved(name: str, folder: Path) -> Path:
    place = folder / name
    return place if (place / "config.json").exists() else save_family(name, place)


def asked(names: list[str], folder: Path) -> list[str]:
    # With a blank, pytest takes a path for one of tests, and its project for the root.
    return [f"--emt-model={saved(name, folder)}" for name in names]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("probe", [name for name in FAMILIES if name not in WITHOUT_FEATURES]),
        ("model", [name for name in FAMILIES if name != BASE]),
        ("encoder", list(FAMILIES)),
    ],
    ids=["probe", "base", "encoder"],
)
def test_every_family_has_a_verdict(run: Start, folder: Path, kind: str, names: list[str]) -> None:
    reference = {
        "probe": ["--emt-reference", "probe"],
        "model": [f"--emt-reference={saved(BASE, folder)}"],
        "encoder": [f"--emt-encoder={bundled_folder() / 'models' / 'clip-mini'}"],
    }[kind]
    done = run(*COMMON, *asked(names, folder), *reference)
    assert done.code in (0, 1, 7), done.output
    assert {pair["model"] for pair in done.record["pairs"]} == set(names)
    for name in names:
        pair = done.pair(f"{name}/digits-mini")
        assert (pair["status"], pair["n"]) == ("measured", 8), pair["reason"]
        assert [score["scorer"] for score in pair["scores"]] == ["answer", "likelihood"]
        comparison = pair["comparisons"][pair["gate"]]
        assert comparison["reference"]["kind"] == kind
        assert comparison["verdict"] in ("PASS", "FAIL", "INCONCLUSIVE")
        steps = {step["name"] for step in pair["steps"] or ()}
        assert ({"vision probe", "projector probe"} <= steps) == (name not in WITHOUT_FEATURES), (name, steps)


@pytest.mark.thorough
@pytest.mark.own_store
@pytest.mark.parametrize("sizes", ["one", "several"])
def test_a_second_model_with_the_same_tower_sees_no_image_anew(
    run: Start, folder: Path, tmp_path: Path, sizes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["llava", "llava_next", "qwen2_5_vl", "internvl", "smolvlm", "instructblip_llama", "instructblip_t5"]
    image_set = "digits-mini" if sizes == "one" else str(_pictures(tmp_path / "pictures"))
    for name in names:
        looks = _counted(tower_of(_twin(name, saved(name, folder), tmp_path / f"{name}-later")), monkeypatch)
        common = (f"--emt-image-set={image_set}", "--emt-limit", "8", "--emt-scorer", "answer,likelihood",
                  "--emt-reference", "probe", "--emt-probe-images", "2")  # fmt: skip
        first = run(*common, f"--emt-model={saved(name, folder)}")
        before = len(looks)
        second = run(*common, f"--emt-model={tmp_path / f'{name}-later'}")
        assert {first.code, second.code} <= {0, 1, 7}, first.output + second.output
        assert (before > 0, len(looks)) == (True, before), name


def _counted(tower: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a tower of that class looks at something."""
    looks: list[int] = []
    forward = type(tower).forward

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        looks.append(1)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(type(tower), "forward", counted)
    return looks


def _pictures(folder: Path) -> Path:
    """Pictures of several sizes of two classes, in two splits."""
    chance = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("bird", "airplane"):
            (folder / split / label).mkdir(parents=True)
            for number, (width, height) in enumerate([(28, 28), (28, 60), (60, 28), (42, 42)]):
                pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder


def _twin(name: str, first: Path, later: Path) -> Any:
    """Another language model around the same tower."""
    model = AutoModelForImageTextToText.from_pretrained(save_family(name, later, seed=1), dtype=torch.float32)
    tower_of(model).load_state_dict(
        tower_of(AutoModelForImageTextToText.from_pretrained(first, dtype=torch.float32)).state_dict()
    )
    model.save_pretrained(later)
    return model
