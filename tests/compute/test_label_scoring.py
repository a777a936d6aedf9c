"""Label scores against the loss that transformers gives for the whole text with ``labels=``, one label, one image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emt_plugin.catalog import Catalog, Question
from emt_plugin.data import load_image_set
from emt_plugin.models.abilities import with_cache
from emt_plugin.models.checkpoint import find
from emt_plugin.models.ranking import packed as label_scoring
from emt_plugin.models.ranking.packed import Prompt, can_be_packed, scored_one_by_one, scored_packed
from emt_plugin.models.transformers_backend import TransformersBackend
from tests.checkpoints import BOS_LIKE, CHATML_LIKE, RECIPES, Recipe, save_llava

PROMPT = "What is the object in the image? Please only answer a single object in {}."
IMAGES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28 + seed, 30, 3), dtype=np.uint8)) for seed in range(5)
]
# Label sets: prefixes of one another, one inside another, shared beginnings, odd characters.
LABEL = st.one_of(
    st.sampled_from(
        ["air", "airplane", "airplanes", "a", "bird", "bird house", "birdhouse", "8", "88", "8 8", "Ünïcödé", "猫"]
    ),
    st.text(alphabet="abe ", min_size=1, max_size=6).map(lambda text: f"b{text.strip()}"),
)
LABELS = st.lists(LABEL, min_size=1, max_size=7, unique=True)
ANSWER = st.sampled_from([("{}", ""), ("The object is a {}.", "The object is a"), ("{}!", ""), ("It's {}", "It's")])

SLIDING = [
    Recipe("mistral-window", text="mistral", group_heads=2, window=23, template=BOS_LIKE, tokenizer="metaspace"),
    Recipe("qwen-window", text="qwen2", group_heads=1, window=17, template=CHATML_LIKE),
]
ALL = [*RECIPES, *SLIDING]


def question(labels: Sequence[str], answer: str = "{}", stem: str = "") -> Question:
    names = tuple(labels)
    return Question(PROMPT.format(", ".join(names)), names, tuple(answer.format(name) for name in names), stem)


@cache
def loaded(name: str, folder: Path) -> tuple[TransformersBackend, Any, Any]:
    recipe = next(recipe for recipe in ALL if recipe.name == name)
    save_llava(recipe, folder)
    backend = TransformersBackend(find(str(folder), "m", "m"), "cpu", "float32")
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return backend, processor, model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def whole_text(recipe: Recipe, asked: str, answer: str) -> tuple[str, str]:
    """(prompt, prompt with the answer and the end token), written out by hand for each template."""
    if recipe.template is CHATML_LIKE or recipe.template_on == "tokenizer":
        newline = "\n" if recipe.template_on == "tokenizer" else ""
        prompt = f"<|im_start|>user\n<image>{newline}{asked}<|im_end|>\n<|im_start|>assistant\n"
        return prompt, f"{prompt}{answer}<|im_end|>"
    if recipe.template is BOS_LIKE:
        prompt = f"<s>[INST] <image>{asked} [/INST]"
        return prompt, f"<s>[INST] <image>{asked} [/INST][INST] {answer}"
    return f"USER: <image>\n{asked} ASSISTANT:", f"USER: <image>\n{asked} ASSISTANT: {answer}</s>"


def expected(name: str, folder: Path, image: Image.Image, asked: Question, label: int) -> float:
    """Log-probability of a label: minus the loss of the whole text, times the number of tokens that it is the mean of."""
    recipe = next(recipe for recipe in ALL if recipe.name == name)
    _, processor, model = loaded(name, folder)
    tokenizer = processor.tokenizer

    def ids(text: str) -> list[int]:
        special = not text.startswith(tokenizer.bos_token)
        return processor(text=text, images=image, return_tensors="pt", add_special_tokens=special)["input_ids"][0].tolist()

    prompt, full = ids(whole_text(recipe, asked.prompt, "")[0]), ids(whole_text(recipe, asked.prompt, asked.answers[label])[1])
    if recipe.template is BOS_LIKE:
        full = [*full, tokenizer.eos_token_id]
    stem_text = whole_text(recipe, asked.prompt, asked.stem)[1].removesuffix("</s>").removesuffix("<|im_end|>")
    stem = ids(stem_text) if asked.stem else prompt
    others = [ids(whole_text(recipe, asked.prompt, answer)[1]) for answer in asked.answers]
    start = max(shared(prompt, *others, full), shared(stem, *others, full))
    targets = torch.tensor([[-100] * start + full[start:]])
    pixels = processor.image_processor([image], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([full]), pixel_values=pixels, labels=targets).loss
    return -float(loss) * (len(full) - start)


def shared(*sequences: list[int]) -> int:
    length = 0
    while all(len(s) > length for s in sequences) and len({s[length] for s in sequences}) == 1:
        length += 1
    return length


@pytest.mark.parametrize("name", [recipe.name for recipe in ALL])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=LABELS, answer=ANSWER, size=st.integers(1, 4), images=st.integers(1, 5), with_answer=st.booleans())
def test_scores_equal_the_loss_of_the_whole_text(
    name: str, folder: Path, labels: list[str], answer: tuple[str, str], size: int, images: int, with_answer: bool
) -> None:
    backend = loaded(name, folder / name)[0]
    backend._batches.size = size
    asked = question(labels, *answer)
    seen = backend.observe(IMAGES[:images], asked, {"label_logprobs", *(["answer"] if with_answer else [])})
    assert backend.packs is True
    for image, observation in zip(IMAGES, seen, strict=False):
        wanted = [expected(name, folder / name, image, asked, label) for label in range(len(labels))]
        assert observation.label_logprobs == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", ["plain", "mistral-window", "qwen-window"])
def test_asking_for_scores_does_not_change_the_answers(name: str, folder: Path) -> None:
    backend = loaded(name, folder / name)[0]
    asked = question(["airplane", "bird", "cat"])
    alone = [seen.answer for seen in backend.observe(IMAGES, asked, {"answer"})]
    both = backend.observe(IMAGES, asked, {"answer", "label_logprobs"})
    assert [seen.answer for seen in both] == alone
    scores = [seen.label_logprobs for seen in backend.observe(IMAGES, asked, {"label_logprobs"})]
    assert [seen.label_logprobs for seen in both] == scores


@pytest.mark.parametrize("name", ["mistral-window", "qwen-window"])
def test_answers_with_a_window_equal_plain_generate(name: str, folder: Path) -> None:
    backend, processor, model = loaded(name, folder / name)
    recipe = next(recipe for recipe in ALL if recipe.name == name)
    asked = question(["airplane", "bird", "cat"])
    text, _ = whole_text(recipe, asked.prompt, "")
    for image, seen in zip(IMAGES, backend.observe(IMAGES, asked, {"answer"}), strict=True):
        special = not text.startswith("<s>")
        inputs = processor(text=text, images=image, return_tensors="pt", add_special_tokens=special)
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        assert seen.answer == processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@torch.inference_mode()
def test_padded_prompts_give_what_they_give_alone(folder: Path) -> None:
    """Prompts of different length in one batch: what a model with other image sizes would have."""
    backend = loaded("mistral-window", folder / "mistral-window")[0]
    asked = question(["airplane", "air", "a bird"])
    short = backend._prompt(IMAGES[:1], "Short?")
    long = backend._prompt(IMAGES[:1], asked.prompt)
    found = backend.candidates_of(asked)
    answers = type(found)(0, 0, found.answers)
    width = long.ids.shape[1]
    gap = width - short.ids.shape[1]
    ids = torch.cat([torch.nn.functional.pad(short.ids, (gap, 0)), long.ids])
    # The root is the prompts' last token, which they share.
    assert ids[0, -1] == ids[1, -1]
    mask = torch.ones_like(ids)
    mask[0, :gap] = 0
    seen = [prompt.vision["mm_encoder_outputs"]["image"].pooler_output[0] for prompt in (short, long)]
    prompt = Prompt(ids, mask, {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=seen)}})
    cache = DynamicCache()
    filled = with_cache(backend.model.model, cache)
    backend.model.model(input_ids=ids, attention_mask=mask, position_ids=prompt.positions, **filled, **prompt.inputs())
    packed = scored_packed(backend.model, cache, prompt, answers)
    alone = torch.cat([scored_one_by_one(backend.model, one, answers, range(3)) for one in (short, long)])
    assert packed.flatten().tolist() == pytest.approx(alone.flatten().tolist(), abs=1e-4)


def test_a_trie_in_pieces_is_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = loaded("plain", folder / "plain")[0]
    asked = question([f"thing {number} of {number % 7}" for number in range(40)])
    whole = [seen.label_logprobs for seen in backend.observe(IMAGES, asked, {"label_logprobs"})]
    monkeypatch.setattr(label_scoring, "MOST_NODES", 9)
    monkeypatch.setattr(label_scoring, "MOST_LOGITS", 500)
    pieces = [seen.label_logprobs for seen in backend.observe(IMAGES, asked, {"label_logprobs"})]
    for one, other in zip(whole, pieces, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_model_that_takes_no_mask_goes_the_slow_way(folder: Path, tmp_path: Path) -> None:
    packed = loaded("plain", folder / "plain")[0]
    backend = TransformersBackend(find(str(folder / "plain"), "m", "m"), "cpu", "float32")
    # A kind of layer that no mask is made for.
    backend.model.config.text_config.layer_types = ["full_attention", "chunked_attention"]
    assert not can_be_packed(backend.model)
    backend.model.config.text_config.layer_types = None
    backend.packs = False
    asked = question(["airplane", "bird", "bird house"])
    slow = [seen.label_logprobs for seen in backend.observe(IMAGES, asked, {"label_logprobs"})]
    for one, other in zip(slow, packed.observe(IMAGES, asked, {"label_logprobs"}), strict=True):
        assert one == pytest.approx(other.label_logprobs, abs=1e-4)


def test_a_model_that_ignores_the_mask_is_found_out(folder: Path) -> None:
    backend = TransformersBackend(find(str(folder / "plain"), "m", "m"), "cpu", "float32")
    right = loaded("plain", folder / "plain")[0]
    inner = backend.model.model.language_model
    forward = inner.forward

    def blind(*arguments: Any, attention_mask: Any = None, **options: Any) -> Any:
        if attention_mask is not None and attention_mask.ndim == 4:
            attention_mask = torch.zeros_like(attention_mask)
        return forward(*arguments, attention_mask=attention_mask, **options)

    inner.forward = blind
    asked = question(["airplane", "bird house", "birds"])
    seen = backend.observe(IMAGES, asked, {"label_logprobs"})
    assert backend.packs is False
    for one, other in zip(seen, right.observe(IMAGES, asked, {"label_logprobs"}), strict=True):
        assert one.label_logprobs == pytest.approx(other.label_logprobs, abs=1e-4)


def test_the_bundled_model_ranks_what_it_answers() -> None:
    image_set = load_image_set(Catalog.load().image_set("mnist-mini"), limit=60)
    backend = TransformersBackend(find(Catalog.load().model("llava-mini").source, "m", "m"), "cpu")
    seen = backend.observe(image_set.images(image_set.items), image_set.question, {"answer", "label_logprobs"})
    first = [max(range(10), key=lambda label: one.label_logprobs[label]) for one in seen]
    said = [one.answer for one in seen]
    assert sum(answer == f"The number is {label}." for answer, label in zip(said, first, strict=True)) >= 55
