"""Greedy means greedy: whatever a checkpoint brings along, its answers are those of its most probable tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, processors
from transformers import AutoModelForImageTextToText, AutoProcessor

from emt_plugin.catalog import Catalog, Question, bundled_folder
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import find
from emt_plugin.models.conversation import appended, end_of_turn
from emt_plugin.models.generation import SHOWN
from emt_plugin.models.transformers_backend import TransformersBackend

LLAVA = bundled_folder() / "models" / "llava-mini"
N = 24


@pytest.fixture(scope="module")
def asked() -> tuple[Question, list[Image.Image]]:
    loaded = load_image_set(Catalog.load().image_set("fashion-mini"), N)
    return loaded.question, loaded.images(loaded.items)


@pytest.fixture(scope="module")
def plain(asked: tuple[Question, list[Image.Image]]) -> list[Any]:
    """What the checkpoint as it is answers and ranks, by a loop of forwards and the largest logit at each step."""
    question, images = asked
    processor = AutoProcessor.from_pretrained(LLAVA, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(LLAVA).eval()
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.prompt}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    found = []
    with torch.inference_mode():
        for image in images[:6]:
            inputs = processor(text=[text], images=[[image]], return_tensors="pt")
            length = inputs["input_ids"].shape[1]
            while inputs["input_ids"][0, -1] != processor.tokenizer.eos_token_id and len(inputs["input_ids"][0]) < length + 32:
                token = model(**inputs).logits[:, -1:].argmax(-1)
                inputs["input_ids"] = torch.cat([inputs["input_ids"], token], dim=1)
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            found.append(processor.tokenizer.decode(inputs["input_ids"][0, length:], skip_special_tokens=True).strip())
    return found


def altered(folder: Path, **files: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of llava-mini with some of its JSON files changed."""
    copy = Path(shutil.copytree(LLAVA, folder))
    for name, change in files.items():
        path = copy / f"{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return copy


def backend(folder: Path, generation: str = "own") -> TransformersBackend:
    return TransformersBackend(find(str(folder), "altered", "altered"), "cpu", "float32", 8, generation=generation)


def answers(folder: Path, asked: tuple[Question, list[Image.Image]], generation: str = "own") -> list[str]:
    question, images = asked
    return [str(seen.answer) for seen in backend(folder, generation).observe(images, question, {"answer"})]


@pytest.fixture(scope="module")
def before(asked: tuple[Question, list[Image.Image]], plain: list[str]) -> list[str]:
    found = answers(LLAVA, asked)
    assert found[: len(plain)] == plain
    return found


def in_generation(**settings: Any) -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {"generation_config": lambda content: content.update(settings)}


def in_tokenizer_and_generation(token: int, word: str) -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {
        "generation_config": lambda content: content.update(eos_token_id=token),
        "tokenizer_config": lambda content: content.update(eos_token=word),
    }


@pytest.mark.parametrize(
    "files",
    [
        in_generation(repetition_penalty=1.5),
        in_generation(no_repeat_ngram_size=2),
        in_generation(do_sample=True, temperature=2.0, top_k=50, top_p=0.9),
        in_generation(num_beams=4, length_penalty=-3.0),
        in_generation(suppress_tokens=[5, 6, 7, 20, 21, 22], begin_suppress_tokens=[30]),
        in_generation(forced_bos_token_id=9, forced_eos_token_id=9),
        in_generation(bad_words_ids=[[40], [41]]),
        in_generation(min_new_tokens=20),
        in_generation(max_new_tokens=2),
        in_generation(max_length=5),
        in_generation(exponential_decay_length_penalty=[1, 5.0]),
        in_generation(guidance_scale=3.0),
        in_generation(eos_token_id=0),
        in_generation(eos_token_id=[0, 3]),
        in_tokenizer_and_generation(0, "<pad>"),
        in_generation(eos_token_id=None),
        in_generation(pad_token_id=7),
        in_generation(return_dict_in_generate=True, output_scores=True, output_hidden_states=True),
        in_generation(cache_implementation="static"),
        in_generation(use_cache=False),
        in_generation(max_time=1e-9),
        in_generation(stop_strings=["The"]),
        {"config": lambda content: content.update(repetition_penalty=1.5)},
        {"processor_config": lambda content: content.pop("patch_size")},
        {"processor_config": lambda content: content.update(patch_size=None, vision_feature_select_strategy=None)},
    ],
    ids=lambda files: next(iter(files)),
)
def test_a_checkpoints_own_settings_do_not_change_its_answers(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str], files: Any
) -> None:
    assert answers(altered(tmp_path / "altered", **files), asked) == before


def test_they_do_where_the_checkpoint_is_followed(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str]
) -> None:
    penalised = altered(tmp_path / "penalised", **in_generation(repetition_penalty=1.5))
    followed = answers(penalised, asked, "checkpoint")
    assert followed != before
    processor = AutoProcessor.from_pretrained(penalised, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(penalised).eval()
    question, images = asked
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.prompt}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[[images[0]]], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=32, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert followed[0] == processor.tokenizer.decode(made, skip_special_tokens=True).strip()
    beams = altered(
        tmp_path / "beams", **in_generation(num_beams=3, do_sample=True, max_time=1e-9, cache_implementation="static")
    )
    assert all(answer.startswith("The object is") for answer in answers(beams, asked, "checkpoint"))


def test_the_settings_in_force_are_told(tmp_path: Path) -> None:
    penalised = altered(tmp_path / "penalised", **in_generation(repetition_penalty=1.5, max_new_tokens=9))
    assert backend(penalised).generation == {"from": "own", "max_new_tokens": 32, "stops_at": ["<|end|>"]}
    followed = backend(penalised, "checkpoint").generation
    assert followed == {"from": "checkpoint", "max_new_tokens": 9, "repetition_penalty": 1.5, "stops_at": ["<|end|>"]}
    assert json.loads(json.dumps(followed)) == followed
    assert set(followed) - {"from", "stops_at"} <= set(SHOWN)


def test_an_answer_ends_at_the_templates_own_end_of_turn(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str]
) -> None:
    folder = altered(tmp_path / "altered", **in_tokenizer_and_generation(0, "<pad>"))
    found = backend(folder)
    assert found.ends == [0, found.processor.tokenizer.convert_tokens_to_ids("<|end|>")]
    assert end_of_turn(found.processor, found._asked("What?"), "m") == [found.ends[1]]


def appending(folder: Path) -> Path:
    """A tokenizer that puts its end token behind every text, as one made to train with does."""
    path = folder / "tokenizer.json"
    made = Tokenizer.from_file(str(path))
    made.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 1)])
    made.save(str(path))
    return folder


def test_an_end_token_behind_the_prompt_is_taken_off(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str]
) -> None:
    folder = appending(altered(tmp_path / "altered"))
    found = backend(folder)
    assert appended(found.processor.tokenizer, found.render("What?")) == 1
    assert answers(folder, asked) == before
    question, images = asked
    ranked = found.observe(images[:2], question, {"label_logprobs"})
    as_it_is = backend(LLAVA).observe(images[:2], question, {"label_logprobs"})
    for one, other in zip(ranked, as_it_is, strict=True):
        assert one.label_logprobs == pytest.approx(other.label_logprobs, abs=1e-5)


def with_templates(folder: Path, **templates: str) -> Path:
    """A processor whose chat templates have names."""
    (folder / "chat_template.jinja").unlink()
    (folder / "additional_chat_templates").mkdir()
    for name, template in templates.items():
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(template)
    return folder


# transformers leaves their files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_named_chat_templates(tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str]) -> None:
    template = (LLAVA / "chat_template.jinja").read_text()
    only = with_templates(altered(tmp_path / "only"), chat=template)
    assert answers(only, asked) == before
    several = with_templates(altered(tmp_path / "several"), chat=template, tools=template)
    with pytest.raises(CouldNotRun, match="altered has the chat templates chat, tools and none that is the default"):
        answers(several, asked)


def test_a_prompt_longer_than_the_models_positions_is_refused_with_both_numbers(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]], before: list[str]
) -> None:
    question, images = asked
    with torch.inference_mode():
        length = backend(LLAVA)._prompt(images[:1], question.prompt).ids.shape[1]

    def of(positions: int) -> Path:
        def change(content: dict[str, Any]) -> None:
            content["text_config"]["max_position_embeddings"] = positions

        return altered(tmp_path / str(positions), config=change)

    with pytest.raises(CouldNotRun, match=f"the prompt takes {length} tokens, and altered has {length - 3} positions"):
        answers(of(length - 3), asked)
    with pytest.raises(
        CouldNotRun, match=rf"takes {length} tokens and a label up to \d+ more, and altered has {length + 1} pos"
    ):
        backend(of(length + 1)).observe(images[:1], question, {"label_logprobs"})
    assert answers(of(length + 32), asked) == before
    assert all(len(short) <= len(whole) for short, whole in zip(answers(of(length + 2), asked), before, strict=True))


def test_a_processor_that_leaves_other_places_for_an_image_is_refused(
    tmp_path: Path, asked: tuple[Question, list[Image.Image]]
) -> None:
    folder = altered(tmp_path / "altered", processor_config=lambda content: content.update(num_additional_image_tokens=0))
    with pytest.raises(CouldNotRun, match=r"writes 15 image tokens where the tower makes 16: set its patch_size") as said:
        answers(folder, asked)
    assert "\n" not in str(said.value)


def test_marks_of_reasoning_survive_decoding_though_they_are_special(tmp_path: Path) -> None:
    found = backend(altered(tmp_path / "altered"))
    words = found.processor.tokenizer
    words.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    tokens = words("[THINK]The object is a bag.[/THINK]The object is a shirt.<|end|>", add_special_tokens=False)["input_ids"]
    text, length = found._said(tokens)
    assert text == "[THINK]The object is a bag.[/THINK]The object is a shirt."
    assert length == len(tokens)
