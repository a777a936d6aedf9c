"""Small checkpoints with random weights, of the same classes as the large ones, for the tests to save and load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    Lfm2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

CORPUS = [
    "What is the object in the image? Please only answer a single object in airplane, automobile, bird, cat, deer.",
    "What is the number in the image? Please only answer a single number in 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
    "The object is a(n) airplane. The number is 8. USER: ASSISTANT: a photo of a",
]
VICUNA_LIKE = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML_LIKE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS_LIKE = (
    "{{ bos_token }}{% for m in messages %}[INST] {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %} [/INST]{% endfor %}"
)
TEXT_ONLY = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLIP_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 1024}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint is made of."""

    name: str
    tower: str = "clip"
    text: str = "llama"
    image_size: int = 28
    patch: int = 7
    tokenizer: str = "bytes"
    template: str = VICUNA_LIKE
    template_on: str = "processor"
    dtype: torch.dtype = torch.float32
    shard: str | None = None
    group_heads: int = 4
    padding_side: str = "left"
    window: int | None = None
    head: bool = True


RECIPES = [
    Recipe("plain"),
    Recipe("siglip-qwen", tower="siglip", text="qwen2", image_size=32, patch=8, template=CHATML_LIKE, group_heads=2),
    Recipe("mistral-bf16", text="mistral", tokenizer="metaspace", template=BOS_LIKE, dtype=torch.bfloat16, group_heads=1),
    Recipe("sharded-fp16", image_size=42, patch=14, dtype=torch.float16, shard="60KB"),
    Recipe("text-template", template=TEXT_ONLY, template_on="tokenizer", padding_side="right"),
]


def tokenizer(kind: str, template: str | None = None, padding_side: str = "left") -> PreTrainedTokenizerFast:
    """A tokenizer trained on a few sentences; ``metaspace`` puts a start token before every text, as Llama's does."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"]
    if kind == "bytes":
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        core.normalizer = normalizers.Prepend("▁")
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        core.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    if kind == "metaspace":
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=special[4:], chat_template=template, padding_side=padding_side,
    )  # fmt: skip


def vision_config(recipe: Recipe) -> Any:
    size = {"image_size": recipe.image_size, "patch_size": recipe.patch}
    if recipe.tower == "clip":
        return CLIPVisionConfig(**CLIP_TOWER, **size)
    return SiglipVisionConfig(**CLIP_TOWER, **size, vision_use_head=recipe.head)


def image_processor(recipe: Recipe) -> Any:
    size = recipe.image_size
    if recipe.tower == "siglip":
        return SiglipImageProcessorPil(size={"height": size, "width": size})
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def text_config(recipe: Recipe, words: PreTrainedTokenizerFast) -> Any:
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config, "mistral": MistralConfig, "lfm2": Lfm2Config}[recipe.text]
    return kind(
        **TEXT, vocab_size=len(words), num_key_value_heads=recipe.group_heads,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, **_window(recipe),
    )  # fmt: skip


def _window(recipe: Recipe) -> dict[str, Any]:
    """A sliding window in all layers of a Mistral, in every other of a Qwen2; convolution in every other of an LFM2."""
    if recipe.text == "lfm2":
        return {"layer_types": ["conv", "full_attention"]}
    if recipe.window is None:
        return {}
    mixed = {"use_sliding_window": True, "max_window_layers": 1} if recipe.text == "qwen2" else {}
    return {"sliding_window": recipe.window, **mixed}


def save_llava(recipe: Recipe, folder: Path, seed: int = 0, tower: torch.nn.Module | None = None) -> Path:
    """Save a LLaVA of random weights; ``tower`` is copied in where given."""
    torch.manual_seed(seed)
    on_tokenizer = recipe.template if recipe.template_on == "tokenizer" else None
    words = tokenizer(recipe.tokenizer, on_tokenizer, recipe.padding_side)
    siglip = recipe.tower == "siglip"
    config = LlavaConfig(
        vision_config=vision_config(recipe),
        text_config=text_config(recipe, words),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1 if siglip else -2,
        vision_feature_select_strategy="full" if siglip else "default",
        image_seq_length=(recipe.image_size // recipe.patch) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    torch.nn.init.normal_(model.lm_head.weight, std=1.0)
    if tower is not None:
        mine = model.model.vision_tower.state_dict()
        model.model.vision_tower.load_state_dict({name: tower.state_dict()[name] for name in mine})
    made = LlavaProcessor(
        image_processor=image_processor(recipe),
        tokenizer=words,
        patch_size=recipe.patch,
        vision_feature_select_strategy="full" if siglip else "default",
        num_additional_image_tokens=0 if siglip else 1,
        chat_template=recipe.template if recipe.template_on == "processor" else None,
    )
    model.to(recipe.dtype).save_pretrained(folder, **({"max_shard_size": recipe.shard} if recipe.shard else {}))
    made.save_pretrained(folder)
    return folder


def save_encoder(recipe: Recipe, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Save a CLIP or SigLIP of random weights whose tower fits the recipe; returns the model."""
    torch.manual_seed(seed)
    words = tokenizer("bytes")
    words._tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    words.model_max_length = 24
    text = {**{key: CLIP_TOWER[key] for key in CLIP_TOWER}, "vocab_size": len(words), "max_position_embeddings": 24,
            "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
    vision = {**CLIP_TOWER, "image_size": recipe.image_size, "patch_size": recipe.patch}
    if recipe.tower == "siglip":
        model: Any = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        made: Any = SiglipProcessor(image_processor=image_processor(recipe), tokenizer=words)
    else:
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
        made = CLIPProcessor(image_processor=image_processor(recipe), tokenizer=words)
    model.to(dtype).save_pretrained(folder)
    made.save_pretrained(folder)
    return model


def hub_cache(home: Path, hub_id: str, folder: Path) -> None:
    """Put a checkpoint into a hub cache, as a download would have left it."""
    repository = home / "hub" / f"models--{hub_id.replace('/', '--')}"
    commit = "0" * 40
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).symlink_to(folder, target_is_directory=True)


def weights(folder: Path) -> Sequence[Path]:
    """A checkpoint's weight files."""
    return sorted(folder.glob("*.safetensors"))
