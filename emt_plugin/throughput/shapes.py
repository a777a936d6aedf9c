"""Models of random weights in other shapes than LLaVA's: their ranking alone is measured on them.

Their configurations are written as the released checkpoints have them: a processor cannot be put together, and so not
saved, without packages for video.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers, processors
from transformers import Blip2Config, Blip2ForConditionalGeneration, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from emt_plugin.throughput.model import PATCH, SIDE, TEXT, VISION, texts_of_labels, tokenizer

QWEN_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
QWEN_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SMALL = {key: VISION[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
END = 1


def save_qwen(folder: Path, seed: int = 0) -> Path:
    """Save a Qwen2.5-VL: images of any size, positions in three dimensions, keys and values shared by heads.

    Args:
        folder: where.
        seed: of its weights.

    Returns:
        The folder.
    """
    torch.manual_seed(seed)
    words = tokenizer(texts_of_labels())
    words.add_tokens(list(QWEN_TOKENS), special_tokens=True)
    image, video, start, end = words.convert_tokens_to_ids(list(QWEN_TOKENS))
    config = Qwen2_5_VLConfig(
        vision_config={
            **{key: VISION[key] for key in ("hidden_size", "intermediate_size")}, "depth": VISION["num_hidden_layers"],
            "num_heads": VISION["num_attention_heads"], "out_hidden_size": TEXT["hidden_size"], "patch_size": PATCH,
            "fullatt_block_indexes": [VISION["num_hidden_layers"] - 1],
        },
        text_config={
            **TEXT, "num_key_value_heads": 2, "vocab_size": len(words), "pad_token_id": 0, "bos_token_id": END,
            "eos_token_id": END,
            # Half a head's width, in three parts.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 8, 8]},
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    made = Qwen2_5_VLForConditionalGeneration(config)
    made.generation_config.update(eos_token_id=END, pad_token_id=0)
    pixels = Qwen2VLImageProcessorPil(patch_size=PATCH)
    settings = {"processor_class": "Qwen2_5_VLProcessor", "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor"}}
    return _saved(folder, made, words, pixels, settings, QWEN_TEMPLATE)


def save_encoder_decoder(folder: Path, seed: int = 0) -> Path:
    """Save a BLIP-2 around a T5: an encoder reads the prompt, a decoder writes the answer.

    Args:
        folder: where.
        seed: of its weights.

    Returns:
        The folder.
    """
    torch.manual_seed(seed)
    words = tokenizer(texts_of_labels())
    core: Any = words.backend_tokenizer
    # As T5's own: a text begins as a word behind a space does.
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", END)])
    config = Blip2Config(
        vision_config={**VISION, "model_type": "blip_2_vision_model"},
        qformer_config={
            **SMALL, "num_hidden_layers": 2, "encoder_hidden_size": VISION["hidden_size"], "vocab_size": len(words),
        },
        text_config={
            "model_type": "t5", "d_model": TEXT["hidden_size"], "d_kv": TEXT["hidden_size"] // TEXT["num_attention_heads"],
            "d_ff": TEXT["intermediate_size"], "num_layers": TEXT["num_hidden_layers"],
            "num_decoder_layers": TEXT["num_hidden_layers"], "num_heads": TEXT["num_attention_heads"],
            "feed_forward_proj": "gated-gelu", "vocab_size": len(words), "pad_token_id": 0, "eos_token_id": END,
            "decoder_start_token_id": 0, "tie_word_embeddings": False,
        },
        num_query_tokens=32, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    made = Blip2ForConditionalGeneration(config)
    made.generation_config.update(eos_token_id=END, pad_token_id=0, decoder_start_token_id=0)
    pixels = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return _saved(folder, made, words, pixels, {"processor_class": "Blip2Processor", "num_query_tokens": 32})


def _saved(folder: Path, model: Any, words: Any, pixels: Any, settings: Mapping[str, Any], template: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words.save_pretrained(folder)
    found = pixels.to_dict()
    found["image_processor_type"] = found["image_processor_type"].removesuffix("Pil")
    written = json.dumps({**settings, "image_processor": found}, default=str)
    (folder / "processor_config.json").write_text(written, encoding="utf-8")
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model.save_pretrained(folder)
    return folder


SHAPES = {"Qwen2.5-VL": save_qwen, "BLIP-2 with a T5": save_encoder_decoder}
