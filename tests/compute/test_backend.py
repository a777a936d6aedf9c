"""The batched backend against the plainest possible use of transformers: one image, one ``model.generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from emt_plugin.catalog import Catalog, Question
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.backend import MAX_NEW_TOKENS
from emt_plugin.models.checkpoint import find
from emt_plugin.models.transformers_backend import TransformersBackend
from tests.checkpoints import BOS_LIKE, RECIPES, Recipe, save_llava

LABELS = ("airplane", "bird")
QUESTION = Question("What is the object in the image? Please only answer a single object in airplane, bird.", LABELS, LABELS)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    image_set = load_image_set(Catalog.load().image_set("emoji-mini"), limit=13)
    sizes = [(32, 32), (20, 50), (64, 31), (28, 28)]
    return [image.resize(sizes[index % 4]) for index, image in enumerate(image_set.images(image_set.items))]


def plain_answer(folder: Path, image: Image.Image, question: str, text_only: bool) -> str:
    """One image, the way the model's page would show it."""
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    if text_only:
        turn = [{"role": "user", "content": f"<image>\n{question}"}]
        text = processor.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=text, images=image, return_tensors="pt")
    else:
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    with torch.inference_mode():
        made = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    return processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_answers_equal_plain_generate_character_for_character(
    recipe: Recipe, tmp_path: Path, images: list[Image.Image]
) -> None:
    folder = save_llava(recipe, tmp_path / "model")
    expected = [plain_answer(folder, image, QUESTION.prompt, recipe.template_on == "tokenizer") for image in images]
    assert len(set(expected)) > 1
    for batch_size in (1, 4, 32):
        backend = TransformersBackend(find(str(folder), "m", "m"), "cpu", "float32", batch_size)
        found = [seen.answer for seen in backend.observe(images, QUESTION, {"answer"})]
        assert found == expected


def test_the_bundled_model_answers_as_plain_generate_does() -> None:
    spec = Catalog.load().image_set("fashion-mini")
    image_set = load_image_set(spec, limit=12)
    images = image_set.images(image_set.items)
    folder = Path(Catalog.load().model("llava-mini").source)
    backend = TransformersBackend(find(str(folder), "m", "m"), "cpu")
    found = [seen.answer for seen in backend.observe(images, image_set.question, {"answer"})]
    assert found == [plain_answer(folder, image, image_set.question.prompt, False) for image in images]


def test_a_start_token_in_the_template_is_not_doubled(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_llava(Recipe("bos", tokenizer="metaspace", template=BOS_LIKE), tmp_path)
    backend = TransformersBackend(find(str(folder), "m", "m"), "cpu")
    seen: list[torch.Tensor] = []
    backend.model.register_forward_pre_hook(lambda _, __, inputs: seen.append(inputs["input_ids"]), with_kwargs=True)
    backend.observe(images[:2], QUESTION, {"answer"})
    assert (seen[0] == backend.processor.tokenizer.bos_token_id).sum(-1).tolist() == [1, 1]


def test_out_of_memory_halves_the_batch_and_drops_nothing(tmp_path: Path, images: list[Image.Image]) -> None:
    backend = TransformersBackend(find(str(save_llava(RECIPES[0], tmp_path)), "m", "m"), "cpu", batch_size=8)
    expected = backend.observe(images, QUESTION, {"answer"})
    sizes: list[int] = []

    def small_memory(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = backend.model.register_forward_pre_hook(small_memory, with_kwargs=True)
    assert backend.observe(images, QUESTION, {"answer"}) == expected
    assert backend.batch_size == 2
    hook.remove()
    backend.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(CouldNotRun, match="ran out of memory on cpu with one image"):
        backend.observe(images[:3], QUESTION, {"answer"})


def test_sampling_settings_of_a_checkpoint_do_not_make_answers_random(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_llava(RECIPES[0], tmp_path)
    before = TransformersBackend(find(str(folder), "m", "m"), "cpu").observe(images, QUESTION, {"answer"})
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 1.5, "top_p": 0.5, "top_k": 3, "num_beams": 3,'
        ' "eos_token_id": 3, "pad_token_id": 0}'
    )
    backend = TransformersBackend(find(str(folder), "m", "m"), "cpu")
    assert backend.observe(images, QUESTION, {"answer"}) == before


def test_a_want_that_it_lacks_is_refused(tmp_path: Path) -> None:
    backend = TransformersBackend(find(str(save_llava(RECIPES[0], tmp_path)), "m", "m"), "cpu")
    with pytest.raises(ValueError, match="cannot observe gaze"):
        backend.observe([], QUESTION, {"gaze"})


@pytest.mark.parametrize(
    ("template", "says"), [(None, "has no chat template"), ("{{ messages[0]['role'] }}", "drops the image")]
)
def test_a_template_that_cannot_be_used_says_so(tmp_path: Path, template: str | None, says: str) -> None:
    folder = save_llava(Recipe("t", template=template), tmp_path)  # type: ignore[arg-type]
    backend = TransformersBackend(find(str(folder), "my-model", "m"), "cpu")
    with pytest.raises(CouldNotRun, match=f"my-model.*{says}|chat template of my-model {says}"):
        backend.render(QUESTION.prompt)
