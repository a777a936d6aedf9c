"""Many families: answers equal plain ``generate``, labels rank as ``labels=`` says, for images of one size and of several."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from emt_plugin.catalog import Question
from emt_plugin.encoders import check_tower
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import find
from emt_plugin.models.processors import load_processor, missing_package
from emt_plugin.models.transformers_backend import TransformersBackend
from emt_plugin.models.vision.sight import tower_of
from emt_plugin.store import Store
from tests.families import FAMILIES, TOWER, each, save_family

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Noise around a colour: pictures that a model can tell apart."""
    chance = np.random.default_rng(seed)
    noise = chance.integers(-60, 60, (height, width, 3)) + chance.integers(0, 256, 3)
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


ONE_SIZE = [picture(seed, 40, 36) for seed in range(4)]
SEVERAL = [picture(9, 28, 28), picture(10, 28, 60), picture(11, 60, 28), picture(12, 42, 42), picture(13, 70, 30)]
LABELS = ("airplane", "air", "bird house", "bird")
QUESTION = Question("What is it? airplane, air, bird house, bird.", LABELS, LABELS)
OPENED = Question(QUESTION.prompt, LABELS, tuple(f"It is a {label}." for label in LABELS), "It is a")
# How the families without a chat template are asked, and what stands between a prompt and its answer.
PLAIN = {
    "paligemma": ("<image>answer en {}", ""),
    "paligemma2": ("<image>answer en {}", ""),
    "blip2_opt": ("Question: {} Answer:", " "),
    "blip2_t5": ("Question: {} Answer:", ""),
    "instructblip_llama": ("{}", " "),
    "instructblip_t5": ("{}", ""),
    "florence2": ("{}", ""),
    "kosmos2": ("Question: {} Answer:", " "),
    "chameleon": ("{}<image>", ""),
    "idefics": ("Question: {} Answer:", " "),
    "git": ("{}", " "),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@cache
def loaded(name: str, folder: Path) -> tuple[TransformersBackend, Any, Any]:
    save_family(name, folder / name)
    backend = TransformersBackend(find(str(folder / name), name, name), "cpu", "float32")
    model = AutoModelForImageTextToText.from_pretrained(folder / name, dtype=torch.float32).eval()
    return backend, load_processor(folder / name), model


def prompt_of(name: str, asked: str) -> tuple[str, str, str]:
    """(prompt, what stands before an answer, what ends it)."""
    if name in PLAIN:
        text, before = PLAIN[name]
        return text.format(asked), before, "</s>"
    image = FAMILIES[name].image
    return f"<|im_start|>user\n{image}{asked}<|im_end|>\n<|im_start|>assistant\n", "", "<|im_end|>"


def inputs_of(processor: Any, text: str, image: Image.Image, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # That of Idefics takes images in a list of their own for text that comes first.
        shown = [image] if type(processor).__name__ == "IdeficsProcessor" else [[image]]
        made = processor(text=[text], images=shown, return_tensors="pt", **more)
    made.pop("labels", None)
    if type(processor).__name__ == "GitProcessor":
        # Its tokenizer ends every text.
        made = {key: value[:, :-1] if key in ("input_ids", "attention_mask") else value for key, value in made.items()}
    return made


def plain_answer(name: str, folder: Path, image: Image.Image) -> str:
    _, processor, model = loaded(name, folder)
    inputs = inputs_of(processor, prompt_of(name, QUESTION.prompt)[0], image)
    with torch.inference_mode():
        made = model.generate(**inputs, max_new_tokens=32, do_sample=False)[0]
    start = 0 if is_encoder_decoder(model) else inputs["input_ids"].shape[1]
    return str(processor.tokenizer.decode(made[start:], skip_special_tokens=True).strip())


def is_encoder_decoder(model: Any) -> bool:
    return bool(model.config.is_encoder_decoder or getattr(model.config.get_text_config(), "is_encoder_decoder", False))


def expected(name: str, folder: Path, image: Image.Image, asked: Question, label: int) -> float:
    """Minus the loss of the whole text, times the number of tokens that it is the mean of."""
    _, processor, model = loaded(name, folder)
    text, before, end = prompt_of(name, asked.prompt)
    prompt = inputs_of(processor, text, image)
    answers = list(asked.answers)
    if is_encoder_decoder(model):
        ids = [processor.tokenizer(answer)["input_ids"] for answer in answers]
        start = shared(*ids, processor.tokenizer(asked.stem)["input_ids"]) if asked.stem else 0
        targets = torch.tensor([ids[label]])
        decoder = torch.cat([torch.tensor([[start_token(model)]]), targets[:, :-1]], dim=1)
        targets[:, :start] = -100
        with torch.inference_mode():
            loss = model(**prompt, decoder_input_ids=decoder, labels=targets).loss
        return -float(loss) * int((targets != -100).sum())
    if name.startswith("paligemma"):
        wholes = [inputs_of(processor, text, image, suffix=[answer]) for answer in answers]
        stem = inputs_of(processor, text, image, suffix=[asked.stem])["input_ids"][0, :-1]
    else:
        more = {}
        if name == "chameleon":
            # Its processor ends the user's turn.
            before, more = processor.tokenizer.sep_token, {"return_for_text_completion": True}
        wholes = [inputs_of(processor, text + before + answer + end, image, **more) for answer in answers]
        stem = inputs_of(processor, text + before + asked.stem, image, **more)["input_ids"][0]
    rows = [whole["input_ids"][0].tolist() for whole in wholes]
    start = shared(prompt["input_ids"][0].tolist(), *rows)
    if asked.stem:
        start = max(start, shared(stem.tolist(), *rows))
    whole = dict(wholes[label])
    if name.startswith("instructblip"):
        # The Q-Former is shown the question alone.
        whole |= {key: prompt[key] for key in ("qformer_input_ids", "qformer_attention_mask")}
    targets = whole["input_ids"].clone()
    targets[:, :start] = -100
    with torch.inference_mode():
        loss = model(**whole, labels=targets).loss
    return -float(loss) * int((targets != -100).sum())


def start_token(model: Any) -> int:
    return int(model.generation_config.decoder_start_token_id or model.config.get_text_config().decoder_start_token_id)


def shared(*sequences: list[int]) -> int:
    length = 0
    while all(len(s) > length for s in sequences) and len({s[length] for s in sequences}) == 1:
        length += 1
    return length


@pytest.mark.parametrize("name", each(FAMILIES))
def test_answers_equal_plain_generate(name: str, folder: Path) -> None:
    backend = loaded(name, folder)[0]
    for images in (ONE_SIZE, SEVERAL):
        said = [seen.answer for seen in backend.observe(images, QUESTION, {"answer"})]
        assert said == [plain_answer(name, folder, image) for image in images]
        assert len(set(said)) > 1


@pytest.mark.parametrize("name", each(FAMILIES))
def test_labels_are_ranked_as_the_loss_of_the_whole_text_says(name: str, folder: Path) -> None:
    backend = loaded(name, folder)[0]
    for images in (ONE_SIZE, SEVERAL):
        for asked in (QUESTION, OPENED):
            seen = backend.observe(images, asked, {"label_logprobs"})
            for image, one in zip(images, seen, strict=True):
                wanted = [expected(name, folder, image, asked, label) for label in range(len(LABELS))]
                assert one.label_logprobs == pytest.approx(wanted, abs=1e-4)


SEEING = [name for name in FAMILIES if name not in {"mllama", "kosmos2", "idefics", "git"}]
# What is kept is what a tower of a class of its own makes.
TOWERS = [name for name in SEEING if name != "chameleon"]


@pytest.mark.parametrize("name", each(SEEING))
def test_features_are_what_the_model_says_an_image_has(name: str, folder: Path) -> None:
    backend, processor, model = loaded(name, folder)
    for images in (ONE_SIZE, SEVERAL):
        for image, seen in zip(images, backend.observe(images, QUESTION, {"features"}), strict=True):
            inputs = inputs_of(processor, prompt_of(name, QUESTION.prompt)[0], image)
            asked = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask", "batch_num_images",
                     "qformer_input_ids", "qformer_attention_mask", "image_position_ids", "image_merge_sizes",
                     "high_res_pixel_values")  # fmt: skip
            with torch.inference_mode():
                asking = model if hasattr(model, "get_image_features") else model.model
                made = asking.get_image_features(**{key: inputs[key] for key in asked if key in inputs}, return_dict=True)
            vision, projector = made.last_hidden_state, made.pooler_output
            if name in {"florence2", "chameleon"}:
                vision = vision.flatten(2).transpose(1, 2)
            if name == "llava":
                # The layer and the tokens that its projector takes.
                vision = made.hidden_states[-2][:, 1:]
            projector = torch.cat([part.flatten(0, -2) for part in projector])
            assert seen.features is not None
            assert seen.features["vision"] == pytest.approx(vision.flatten(0, -2).mean(0).tolist(), abs=1e-4)
            assert seen.features["projector"] == pytest.approx(projector.mean(0).tolist(), abs=1e-4)


@pytest.mark.parametrize("name", each(TOWERS))
def test_a_second_checkpoint_with_the_same_tower_runs_no_vision_forward(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded(name, folder)[2]
    save_family(name, tmp_path / "second", seed=1)
    second = AutoModelForImageTextToText.from_pretrained(tmp_path / "second", dtype=torch.float32)
    tower_of(second).load_state_dict(tower_of(first).state_dict())
    second.save_pretrained(tmp_path / "second")
    tower = type(tower_of(first))
    looks: list[int] = []
    forward = tower.forward

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        looks.append(1)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(tower, "forward", counted)
    images = ONE_SIZE if name == "idefics2" else [*ONE_SIZE, *SEVERAL]
    want = {"answer", "label_logprobs", "features"}
    found = []
    for which, store in ((folder / name, "use"), (tmp_path / "second", "use"), (tmp_path / "second", "off")):
        looks.clear()
        backend = TransformersBackend(find(str(which), "m", "m"), "cpu", "float32", store=Store(tmp_path / "store", store))
        found.append((backend.observe(images, QUESTION, want), len(looks)))
    (_, before), (seen, again), (anew, without) = found
    assert (before > 0, again, without > 0) == (True, 0, True)
    for one, other in zip(seen, anew, strict=True):
        assert one.answer == other.answer
        assert one.label_logprobs == pytest.approx(other.label_logprobs, abs=1e-4)
        assert one.features is not None
        assert other.features is not None
        assert one.features["projector"] == pytest.approx(other.features["projector"], abs=1e-4)


@pytest.mark.parametrize(
    "name", each(["idefics3", "smolvlm", "gemma3", "paligemma", "aya_vision", "llava_onevision", "vipllava"])
)
def test_equal_weights_make_a_tower_the_models_own(name: str, folder: Path) -> None:
    model = loaded(name, folder)[2]
    tower = tower_of(model)
    clip = tower.config.model_type == "clip_vision_model"
    sizes = {key: getattr(tower.config, key) for key in TOWER}
    twin = CLIPModel(CLIPConfig(vision_config=sizes)) if clip else SiglipModel(SiglipConfig(vision_config=sizes))
    mine = {key.removeprefix("vision_model."): value for key, value in tower.state_dict().items()}
    missing, unexpected = twin.vision_model.load_state_dict(mine, strict=False)
    assert not unexpected
    assert all(key.startswith("head.") for key in missing)
    assert check_tower(model, twin).words == "own encoder"
    next(twin.vision_model.parameters()).data.add_(1.0)
    assert check_tower(model, twin).words.startswith("tower changed in tuning, or wrong encoder: 1 of ")


# Layers that carry a state, a decoder with a place for each position, a model that builds every mask itself, and one
# that gives some words no probability.
EXPANDED = {"qwen3_5", "florence2", "kosmos2", "chameleon"}
# These want to see the image again with every text, or count positions from what they are given at once.
ONE_BY_ONE = {"idefics", "git"}


@pytest.mark.parametrize("name", each(FAMILIES))
def test_labels_are_ranked_behind_one_prefill(name: str, folder: Path) -> None:
    backend = loaded(name, folder)[0]
    for images in (ONE_SIZE, SEVERAL):
        backend.observe(images, QUESTION, {"label_logprobs"})
    behind = (False, True) if name in EXPANDED else (True, None)
    assert (backend.packs, backend.expands) == ((False, False) if name in ONE_BY_ONE else behind)


@pytest.mark.parametrize(
    ("error", "package"),
    [
        ("PixtralProcessor requires the Torchvision library but it was not found in your environment.", "torchvision"),
        ("Package `num2words` is required to run SmolVLM processor. Install it with `pip install num2words`.", "num2words"),
        ("No module named 'sentencepiece'", "sentencepiece"),
        ("cannot import name 'x' from 'y'", None),
    ],
)
def test_a_missing_package_is_named(error: str, package: str | None) -> None:
    assert missing_package(ImportError(error)) == package
    assert missing_package(ValueError(error)) is None


def test_a_checkpoint_that_needs_a_package_says_which(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    save_family("smolvlm", folder / "needy")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(
        CouldNotRun, match=r"^needy needs the package num2words, which is not installed: pip install num2words$"
    ):
        TransformersBackend(find(str(folder / "needy"), "needy", "needy"), "cpu", "float32")
