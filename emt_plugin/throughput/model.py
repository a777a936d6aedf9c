"""A LLaVA of random weights with as many image tokens as the large ones: costs alone are measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from emt_plugin.catalog import Catalog

SIDE, PATCH = 336, 14
# With it CIFAR-100's names have 1.6 tokens each on average, and no label has more than 6.
VOCABULARY = 890
KINDS = ("small", "large", "spotted", "striped", "wooden", "painted", "young", "old")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<image>", "<|user|>", "<|assistant|>"]
VISION = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
          "image_size": SIDE, "patch_size": PATCH}  # fmt: skip
TEXT = {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
        "num_key_value_heads": 6, "max_position_embeddings": 16384}  # fmt: skip


def labels_of(count: int) -> tuple[str, ...]:
    """So many label names: CIFAR-10's, CIFAR-100's, then those of CIFAR-100 and miniImagenet and kinds of the former."""
    known = Catalog.load().known_labels()
    if count <= len(known["cifar10"]):
        return known["cifar10"][:count]
    kinds = (f"{kind} {name}" for kind in KINDS for name in known["cifar100"])
    return tuple(dict.fromkeys([*known["cifar100"], *known["miniimagenet"], *kinds]))[:count]


def save(folder: Path, seed: int = 0) -> Path:
    """Save ``model``, ``later`` (another language model around the same tower) and their ``encoder``.

    Returns:
        The folder.
    """
    torch.manual_seed(seed)
    texts = texts_of_labels()
    words = tokenizer(texts)
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    encoder = CLIPModel(
        CLIPConfig(
            projection_dim=64,
            vision_config=VISION,
            text_config={
                "vocab_size": len(words),
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "max_position_embeddings": 64,
                "pad_token_id": 0,
                "bos_token_id": 3,
                "eos_token_id": 3,
            },
        )
    )
    encoder.save_pretrained(folder / "encoder")
    CLIPProcessor(image_processor=image_processor, tokenizer=_of_captions(texts)).save_pretrained(folder / "encoder")
    for name in ("model", "later"):
        made = LlavaForConditionalGeneration(_config(words))
        made.model.vision_tower.load_state_dict(encoder.vision_model.state_dict())
        made.save_pretrained(folder / name)
        LlavaProcessor(
            image_processor=image_processor, tokenizer=words, patch_size=PATCH, vision_feature_select_strategy="default",
            num_additional_image_tokens=1, chat_template=TEMPLATE,
        ).save_pretrained(folder / name)  # fmt: skip
    return folder


def texts_of_labels() -> list[str]:
    """What a tokenizer is trained on: the labels' words and the prompt's."""
    words_used = {word for count in (10, 1000) for label in labels_of(count) for word in label.split()}
    return [" ".join(["", *sorted(words_used)]), "What is the object in the image? Please only answer a single object in"]


def tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the labels."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<|end|>", additional_special_tokens=SPECIAL[2:]
    )


def _of_captions(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """The same with an end token behind every text; not with id 2, at which CLIP would pool otherwise."""
    words = tokenizer(texts)
    backend: Any = words.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(single="$A <|user|>", special_tokens=[("<|user|>", 3)])
    words.model_max_length = 64
    return words


def _config(words: PreTrainedTokenizerFast) -> LlavaConfig:
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT, vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=1),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
