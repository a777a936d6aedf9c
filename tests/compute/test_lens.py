"""LENS: what is read of an image, what is answered and how labels rank are what the models by themselves give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import processors
from transformers import (
    AutoModelForSeq2SeqLM,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPModel,
    CLIPProcessor,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from emt_plugin.catalog import ModelSpec, Question
from emt_plugin.errors import CouldNotRun
from emt_plugin.models import Request
from emt_plugin.pipelines.lens import LensBackend
from emt_plugin.pipelines.lens_parts import LensParts, vocabulary
from emt_plugin.settings import Compute
from emt_plugin.store import Store
from tests.checkpoints import CLIP_TOWER, Recipe, save_encoder, tokenizer
from tests.families import T5

pytestmark = pytest.mark.usefixtures("one_thread")
TAGS = ("airplane", "bird", "cat", "deer", "a long tag", "frog", "horse")
ATTRIBUTES = ("it has wings", "it has fur", "it is green", "it has hooves")
LABELS = ("airplane", "bird", "deer", "a cat")
QUESTION = Question("What is the object? airplane, bird, deer, a cat.", LABELS, LABELS)
THRESHOLD = -0.05


def words(end: bool = True) -> Any:
    made = tokenizer("bytes")
    if end:
        made._tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    return made


def save_lens(folder: Path) -> Path:
    """A LENS of random weights: a CLIP, a BLIP, a T5, two vocabularies and the file that names them."""
    torch.manual_seed(0)
    save_encoder(Recipe("clip"), folder / "clip")
    own = words(end=False)
    text = {"vocab_size": len(own), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3,
            "eos_token_id": 3, "initializer_range": 0.3}  # fmt: skip
    vision = {**CLIP_TOWER, "image_size": 28, "patch_size": 7, "initializer_range": 0.3}
    blip = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    blip.save_pretrained(folder / "blip")
    BlipProcessor(BlipImageProcessorPil(size={"height": 28, "width": 28}), own).save_pretrained(folder / "blip")
    mine = words()
    t5 = T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": len(mine)}))
    for name, parameter in t5.named_parameters():
        if parameter.ndim > 1 and "layer_norm" not in name:
            parameter.data.mul_(2.0)
    torch.nn.init.normal_(t5.get_output_embeddings().weight, std=0.5)
    t5.save_pretrained(folder / "t5")
    mine.save_pretrained(folder / "t5")
    (folder / "tags.txt").write_text("\n".join(TAGS) + "\n")
    (folder / "attributes.txt").write_text("\n".join(ATTRIBUTES))
    (folder / "lens.toml").write_text(
        'clip = "clip"\ncaptioner = "blip"\nlanguage_model = "t5"\ntags = "tags.txt"\nattributes = "attributes.txt"\n'
        f"threshold = {THRESHOLD}\nmost = 3\ncaptions = 2\n"
    )
    return folder / "lens.toml"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lens(tmp_path_factory.mktemp("lens"))


def backend_of(source: Path, **compute: Any) -> LensBackend:
    spec = ModelSpec("lens", str(source), "lens", None, None, (), backend="lens")
    settings = Compute(device="cpu", dtype="float32", **compute)
    return LensBackend(Request(spec, settings, Store(Path(), "off"), print))


def pictures() -> list[Image.Image]:
    chance = np.random.default_rng(0)
    sizes = ((28, 28), (40, 30), (30, 60), (64, 64), (28, 28))
    return [Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def nearest(clip: Any, processor: Any, image: Image.Image, found: tuple[str, ...]) -> list[str]:
    """By the plainest loop: one text at a time."""
    seen = clip.get_image_features(**processor.image_processor([image], return_tensors="pt")).pooler_output[0]
    scored = []
    for word in found:
        text = clip.get_text_features(**processor.tokenizer([word], return_tensors="pt")).pooler_output[0]
        scored.append((float(torch.cosine_similarity(seen, text, dim=0)), word))
    return [word for score, word in sorted(scored, reverse=True)[:3] if score >= THRESHOLD]


def test_answers_and_likelihoods_are_those_of_the_models_by_themselves(source: Path) -> None:
    backend = backend_of(source)
    images = pictures()
    seen = backend.observe(images, QUESTION, {"answer", "label_logprobs"})
    folder = source.parent
    clip, clip_processor = CLIPModel.from_pretrained(folder / "clip").eval(), CLIPProcessor.from_pretrained(folder / "clip")
    blip = BlipForConditionalGeneration.from_pretrained(folder / "blip").eval()
    t5 = AutoModelForSeq2SeqLM.from_pretrained(folder / "t5").eval()
    mine, own = words(), words(end=False)
    pixels = BlipImageProcessorPil(size={"height": 28, "width": 28})
    described = []
    with torch.inference_mode():
        for image, observed in zip(images, seen, strict=True):
            tags, attributes = (nearest(clip, clip_processor, image, found) for found in (TAGS, ATTRIBUTES))
            made = blip.generate(
                pixel_values=pixels([image], return_tensors="pt")["pixel_values"],
                input_ids=own(["a picture of"], return_tensors="pt")["input_ids"], num_beams=2, num_return_sequences=2,
                do_sample=False, min_length=10, max_length=30,
            )  # fmt: skip
            captions = [own.decode(row, skip_special_tokens=True).strip().removeprefix("a picture of").strip() for row in made]
            text = "Tags:\n-" + "\n-".join(tags) + "\nAttributes:\n-" + "\n-".join(attributes)
            text += "\nCaptions:\n-" + "\n-".join(captions) + f"\nQuestion:{QUESTION.prompt}\nShort Answer:"
            described.append(text)
            ids = mine([text], return_tensors="pt")["input_ids"]
            answer = t5.generate(input_ids=ids, do_sample=False, max_new_tokens=32)[0]
            assert observed.answer == mine.decode(answer, skip_special_tokens=True).strip()
            assert observed.label_logprobs is not None
            for label, found in zip(LABELS, observed.label_logprobs, strict=True):
                target = mine([label], return_tensors="pt")["input_ids"]
                loss = t5(input_ids=ids, labels=target).loss
                assert found == pytest.approx(-float(loss) * target.shape[1], abs=1e-4)
    assert len(set(described)) == len(images)
    assert len({observed.answer for observed in seen}) > 1


def test_a_verdict_against_its_clip(source: Path, tmp_path: Path) -> None:
    from emt_plugin.catalog import Catalog
    from emt_plugin.evaluation import Evaluator
    from emt_plugin.settings import Settings, Storing

    file = tmp_path / "catalog.toml"
    file.write_text(f'[models.lens]\nsource = "{source}"\nbackend = "lens"\nencoder = "{source.parent / "clip"}"\n')
    catalog = Catalog.load(file)
    compute = Compute(limit=12, device="cpu", dtype="float32")
    evaluator = Evaluator(Settings(catalog=catalog, compute=compute, store=Storing(tmp_path / "store")), None, print)
    pair = evaluator.measure(evaluator.model(catalog.model("lens")), evaluator.image_set(catalog.image_set("mnist-mini")))
    evaluator.close()
    assert (pair.status, pair.n) == ("measured", 12)
    assert pair.encoder is not None
    assert (pair.encoder.own, pair.encoder.tower) == (True, "own encoder")
    assert pair.gating is not None
    assert pair.model_facts["architecture"] == "LENS, T5ForConditionalGeneration"
    assert "{captions}" in pair.model_facts["rendered_prompt"]


def test_whatever_it_is_made_of_is_another_system(source: Path, tmp_path: Path) -> None:
    import shutil

    known = json.dumps(backend_of(source).identity(), sort_keys=True)
    assert json.dumps(backend_of(source).identity(), sort_keys=True) == known
    for file, text in (("tags.txt", "\n".join(TAGS[:-1])), ("lens.toml", source.read_text().replace("most = 3", "most = 2"))):
        copy = tmp_path / file.partition(".")[0]
        shutil.copytree(source.parent, copy)
        (copy / file).write_text(text)
        assert json.dumps(backend_of(copy / "lens.toml").identity(), sort_keys=True) != known


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("clip = 5\n", "clip is 5; write a folder, a file or a hub id"),
        ('tags = ""\n', "tags is ''; write a folder, a file or a hub id"),
        ("captions = 0\n", "captions is 0; write a whole number of at least 1"),
        ("most = true\n", "most is True; write a whole number of at least 1"),
        ("threshold = 2\n", "threshold is 2; write a cosine from -1 to 1"),
        ('vision = "x"\n', "'vision' means nothing there; known: clip, captioner, language_model"),
        ("clip = \n", "is no description of a LENS"),
        ('clip = "nowhere/clip"\n', "the language model of lens .* is not on this machine"),
    ],
)
def test_what_is_no_lens_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "lens.toml").write_text(text)
    with pytest.raises(CouldNotRun, match=sentence) as refused:
        backend_of(tmp_path / "lens.toml")
    assert "\n" not in str(refused.value)


def test_a_vocabulary_is_a_file_or_a_dataset(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "words.txt").write_text("cat\n\ndog \ncat\n")
    assert vocabulary(str(tmp_path / "words.txt")) == ("cat", "dog")
    datasets.Dataset.from_dict({"prompt_descriptions": [["a", "b"], ["b", "c"]]}).to_parquet(tmp_path / "set" / "train.parquet")
    assert vocabulary(f"{tmp_path / 'set'}:train") == ("a", "b", "c")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(CouldNotRun, match="is empty"):
        vocabulary(str(tmp_path / "empty.txt"))
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(CouldNotRun, match=r"cannot be read .* write it as UTF-8"):
        vocabulary(str(tmp_path / "latin.txt"))
    with pytest.raises(CouldNotRun, match="cannot be had"):
        vocabulary("nobody/nothing:train")


def test_the_released_parts_are_known_and_a_threshold_may_be_whole(tmp_path: Path) -> None:
    (tmp_path / "lens.toml").write_text("threshold = 0\n")
    assert LensParts.of(str(tmp_path / "lens.toml")) == replace(LensParts(), threshold=0)
    assert LensParts.of("lens").clip == "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
