"""Small checkpoints with random weights of many families, each with the image processor and processor class of its own.

What a processor needs is written by hand into ``processor_config.json``, as the released checkpoints have it: some
processors cannot be put together, and so not saved, without packages for video.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from tokenizers import processors
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil
from transformers.models.deepseek_vl_hybrid.image_processing_pil_deepseek_vl_hybrid import DeepseekVLHybridImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics.image_processing_pil_idefics import IdeficsImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.ovis2.image_processing_pil_ovis2 import Ovis2ImageProcessorPil
from transformers.models.paddleocr_vl.image_processing_pil_paddleocr_vl import PaddleOCRVLImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import VideoLlama3ImageProcessorPil
from transformers.utils import is_torchvision_available

from tests.checkpoints import tokenizer

Ids = Callable[[str], int]
TEXT: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "num_key_value_heads": 2, "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": 2,
                        "eos_token_id": 3, "tie_word_embeddings": False}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
         "patch_size": 7}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
MROPE = {**ROPE, "mrope_section": [2, 2, 2]}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZE = {"height": 28, "width": 28}
GRID = [[28, 56], [56, 28], [56, 56]]


@dataclass(frozen=True)
class Family:
    """How a checkpoint of a family is made.

    Attributes:
        processor: the class of its processor.
        pixels: its image processor.
        config: its configuration, given what finds a token's id.
        image: what the chat template writes for an image; empty for a family without a template.
        tokens: special tokens beside the tokenizer's own.
        named: the same by the names that the processor knows them by.
        settings: of the processor.
        video: the class of a video processor that its ``processor_config.json`` names.
        around: what the tokenizer puts around a text.
        second_tokenizer: the folder of a second tokenizer.
        scale: by how much its random weights are larger than they come.
    """

    processor: str
    pixels: Any
    config: Callable[[Ids], dict[str, Any]]
    image: str = "<image>"
    tokens: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    video: str = ""
    around: str = "$A"
    second_tokenizer: str = ""
    scale: float = 3.0


def clip_pixels() -> Any:
    return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SIZE)


def siglip_pixels() -> Any:
    return SiglipImageProcessorPil(size=SIZE)


def qwen_pixels() -> Any:
    return Qwen2VLImageProcessorPil(patch_size=7, merge_size=2, size={"shortest_edge": 14 * 14, "longest_edge": 14 * 14 * 16})


def text(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **TEXT, **more}


def tower(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **TOWER, **more}


def llava_like(kind: str, vision: dict[str, Any], words: dict[str, Any], image: str = "<image>", **more: Any) -> Any:
    """A configuration, given what finds a token's id."""
    return lambda ids: {
        "model_type": kind, "vision_config": vision, "text_config": words, "image_token_id": ids(image),
        "image_token_index": ids(image), "tie_word_embeddings": False, **more,
    }  # fmt: skip


QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def qwen(kind: str, processor: str, vision: dict[str, Any], **more: Any) -> Family:
    def config(ids: Ids) -> dict[str, Any]:
        start, end, image, video = map(ids, QWEN_TOKENS)
        return {
            "model_type": kind, "text_config": {**TEXT, "rope_parameters": dict(MROPE), **more},
            "vision_config": {"patch_size": 7, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
            "image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end,
            "tie_word_embeddings": False,
        }  # fmt: skip

    image = "<|vision_start|><|image_pad|><|vision_end|>"
    return Family(processor, qwen_pixels(), config, image, QWEN_TOKENS, video="Qwen2VLVideoProcessor")


def idefics3_like(kind: str, processor: str, pixels: Any, video: str = "") -> Family:
    tokens = (
        "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
    )  # fmt: skip
    vision = tower(f"{kind}_vision" if kind == "smolvlm" else "idefics3_vision", max_image_size={"longest_edge": 28})
    config = llava_like(kind, vision, text("llama"), scale_factor=2, pad_token_id=0)
    return Family(processor, pixels, config, tokens=tokens, settings={"image_seq_len": 4}, video=video)


def blip_like(kind: str, processor: str, words: dict[str, Any], **more: Any) -> Family:
    second = kind == "instructblip"

    def config(ids: Ids) -> dict[str, Any]:
        size = {
            **{key: TOWER[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")},
            "num_attention_heads": 2,
        }
        return {
            "model_type": kind, "text_config": {**words, "vocab_size": words.get("vocab_size", 0)},
            "vision_config": tower(f"{kind.replace('-', '_')}_vision_model", initializer_range=0.02),
            "qformer_config": {**size, "encoder_hidden_size": 32, "vocab_size": 400},
            "num_query_tokens": 4, "image_token_index": ids("<image>"), "initializer_range": 0.02,
        }  # fmt: skip

    return Family(
        processor, BlipImageProcessorPil(size=SIZE), config, "", settings={"num_query_tokens": 4},
        second_tokenizer="qformer_tokenizer" if second else "", **more,
    )  # fmt: skip


OPT = {"model_type": "opt", "hidden_size": 48, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
       "max_position_embeddings": 2048, "word_embed_proj_dim": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
       "tie_word_embeddings": False, "init_std": 0.1}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 48, "d_kv": 12, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
      "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0, "tie_word_embeddings": False,
      "feed_forward_proj": "gated-gelu"}  # fmt: skip
AYA_TOKENS = (
    "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL",
    *(f"TILE_{number}" for number in range(1, 13)),
)  # fmt: skip
INTERNVL = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>"}  # fmt: skip
GLM_TOKENS = ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
PIXTRAL_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
PIXTRAL = {**TOWER, "model_type": "pixtral", "image_size": 70, "head_dim": 16}


def glm4v(ids: Ids) -> dict[str, Any]:
    image, video, *around = map(ids, GLM_TOKENS)
    return {
        "model_type": "glm4v",
        "text_config": {**TEXT, "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}, "pad_token_id": 0},
        "vision_config": {"depth": 2, "hidden_size": 32, "num_heads": 2, "image_size": 28, "patch_size": 7,
                          "out_hidden_size": 48, "intermediate_size": 48, "spatial_merge_size": 2, "temporal_patch_size": 2},
        "image_token_id": image, "video_token_id": video, "image_start_token_id": around[0], "image_end_token_id": around[1],
        "video_start_token_id": around[2], "video_end_token_id": around[3], "tie_word_embeddings": False,
    }  # fmt: skip


def mllama(ids: Ids) -> dict[str, Any]:
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "attention_heads": 2, "num_global_layers": 1,
              "image_size": 28, "patch_size": 7, "vision_output_dim": 64, "intermediate_layers_indices": [0],
              "max_num_tiles": 4}  # fmt: skip
    words = {**TEXT, "num_hidden_layers": 3, "cross_attention_layers": [1], "rope_parameters": ROPE}
    return {"model_type": "mllama", "text_config": words, "vision_config": vision, "image_token_index": ids("<|image|>")}


def florence2(ids: Ids) -> dict[str, Any]:
    words = {"model_type": "bart", "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 512,
             "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3, "forced_eos_token_id": None,
             "init_std": 0.1}  # fmt: skip
    vision = {"model_type": "florence_vision", "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2],
              "patch_padding": [3, 1],
              "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 2],
              "num_groups": [2, 2], "window_size": 4,
              "projection_dim": 48, "drop_path_rate": 0.0}  # fmt: skip
    return {"model_type": "florence2", "text_config": words, "vision_config": vision, "image_token_id": ids("<image>")}


def kosmos2(ids: Ids) -> dict[str, Any]:
    words = {"embed_dim": 48, "layers": 2, "ffn_dim": 64, "attention_heads": 4, "pad_token_id": 0, "bos_token_id": 2,
             "eos_token_id": 3, "tie_word_embeddings": False, "init_std": 0.1}  # fmt: skip
    return {"model_type": "kosmos-2", "text_config": words, "vision_config": dict(TOWER), "latent_query_num": 64,
            "tie_word_embeddings": False}  # fmt: skip


GEMMA4 = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>",
          "boa_token": "<|audio>", "eoa_token": "<audio|>"}  # fmt: skip
OVIS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
JANUS = {"image_token": "<image>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
PADDLE = ("<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>", "<|video|>")
# Written in letters for digits, as the released tokenizer has them.
CODES = tuple(f"IMGIMG{''.join('ABCDEFGHIJ'[int(digit)] for digit in str(number))}Z" for number in range(32))


def gemma4(ids: Ids) -> dict[str, Any]:
    words = {**TEXT, "model_type": "gemma4_text", "head_dim": 12, "global_head_dim": 12, "hidden_size_per_layer_input": 8,
             "sliding_window": 16, "num_hidden_layers": 4, "num_kv_shared_layers": 2,
             "layer_types": ["sliding_attention", "full_attention"] * 2, "vocab_size_per_layer_input": 400}  # fmt: skip
    vision = {**tower("gemma4_vision"), "num_key_value_heads": 2, "head_dim": 16, "pooling_kernel_size": 2,
              "position_embedding_size": 64}  # fmt: skip
    return {"model_type": "gemma4", "text_config": words, "vision_config": vision, "audio_config": None,
            "image_token_id": ids("<|image|>"), "boi_token_id": ids("<|image>"), "eoi_token_id": ids("<image|>"),
            "video_token_id": ids("<|video|>"), "audio_token_id": ids("<|audio|>"), "tie_word_embeddings": False}  # fmt: skip


def ovis2(ids: Ids) -> dict[str, Any]:
    made = llava_like("ovis2", {**tower("ovis2_vision"), "vocab_size": 64}, text("qwen2"), "<IMG_ATOM>", hidden_size=48)
    return {**made(ids), "vocab_size": 0, "visual_indicator_token_ids": [ids(token) for token in OVIS]}


def paddle(ids: Ids) -> dict[str, Any]:
    start, image, end, video = map(ids, PADDLE)
    return {"model_type": "paddleocr_vl", "text_config": text("paddleocr_vl_text", head_dim=12, rope_parameters=dict(MROPE)),
            "vision_config": dict(TOWER), "image_token_id": image, "video_token_id": video, "vision_start_token_id": start,
            "vision_end_token_id": end, "tie_word_embeddings": False}  # fmt: skip


def chameleon(ids: Ids) -> dict[str, Any]:
    codes = {"embed_dim": 16, "num_embeddings": len(CODES), "latent_channels": 16, "resolution": 32, "base_channels": 32,
             "channel_multiplier": [1, 1, 1], "num_res_blocks": 1}  # fmt: skip
    known = {token: ids(token) for token in ("<image>", *CODES)}
    return {**text("chameleon", num_key_value_heads=4), "vq_config": codes, "vocabulary_map": known,
            "image_token_id": ids("<image>")}  # fmt: skip


def idefics(ids: Ids) -> dict[str, Any]:
    vision = {"embed_dim": 32, **{key: value for key, value in TOWER.items() if key != "hidden_size"}}
    return {**text("idefics", num_key_value_heads=4), "vision_config": vision, "perceiver_config": {"use_resampler": False},
            "alpha_initializer": "ones", "additional_vocab_size": 0}  # fmt: skip


def git(ids: Ids) -> dict[str, Any]:
    words = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
    return {**words, "model_type": "git", "max_position_embeddings": 512, "vision_config": dict(TOWER)}


VISION_3 = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 48,
            "num_position_embeddings": 16}  # fmt: skip
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
          "layer_types": ["linear_attention", "full_attention"]}  # fmt: skip

FAMILIES: dict[str, Family] = {
    "llava": Family(
        "LlavaProcessor", clip_pixels(),
        llava_like("llava", tower("clip_vision_model"), text("llama"), image_seq_length=16, vision_feature_layer=-2),
        settings={"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    ),
    "vipllava": Family(
        "LlavaProcessor", clip_pixels(),
        llava_like("vipllava", tower("clip_vision_model"), text("llama"), image_seq_length=16, vision_feature_layers=[-2, 1],
                   vision_feature_layer=[-2, 1]),
        settings={"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    ),
    "llava_next": Family(
        "LlavaNextProcessor",
        LlavaNextImageProcessorPil(size={"shortest_edge": 28}, crop_size=SIZE, image_grid_pinpoints=GRID),
        llava_like("llava_next", tower("clip_vision_model"), text("mistral"),
                   image_grid_pinpoints=GRID),
        settings={"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    ),
    "llava_onevision": Family(
        "LlavaOnevisionProcessor",
        LlavaOnevisionImageProcessorPil(size=SIZE, image_grid_pinpoints=[[28, 28], *GRID]),
        llava_like("llava_onevision", tower("siglip_vision_model", vision_use_head=False), text("qwen2"),
                   image_grid_pinpoints=[[28, 28], *GRID]),
        tokens=("<video>",),
        settings={"num_image_tokens": 16, "vision_feature_select_strategy": "full"}, video="LlavaOnevisionVideoProcessor",
    ),
    "internvl": Family(
        "InternVLProcessor", GotOcr2ImageProcessorPil(size=SIZE, crop_to_patches=True, max_patches=4),
        llava_like("internvl", tower("internvl_vision", image_size=[28, 28], patch_size=[7, 7]), text("qwen2"), "<IMG_CONTEXT>",
                   image_seq_length=4),
        "<IMG_CONTEXT>\n", named=INTERNVL, settings={"image_seq_length": 4}, video="InternVLVideoProcessor",
    ),
    "qwen2_vl": qwen("qwen2_vl", "Qwen2VLProcessor",
                     {"depth": 2, "embed_dim": 32, "hidden_size": 48, "num_heads": 2, "mlp_ratio": 2}),
    "qwen2_5_vl": qwen("qwen2_5_vl", "Qwen2_5_VLProcessor",
                       {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 48,
                        "window_size": 28, "fullatt_block_indexes": [1]}),
    "qwen3_vl": qwen("qwen3_vl", "Qwen3VLProcessor", {**VISION_3, "deepstack_visual_indexes": [0]}, head_dim=12),
    "qwen3_5": qwen("qwen3_5", "Qwen3VLProcessor", VISION_3, head_dim=12, **LINEAR),
    "glm4v": Family(
        "Glm4vProcessor",
        Glm4vImageProcessorPil(patch_size=7, merge_size=2, size={"shortest_edge": 392, "longest_edge": 6272}),
        glm4v, "<|begin_of_image|><|image|><|end_of_image|>", GLM_TOKENS, video="Glm4vVideoProcessor",
    ),
    "smolvlm": idefics3_like(
        "smolvlm", "SmolVLMProcessor",
        SmolVLMImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}), "SmolVLMVideoProcessor",
    ),
    "idefics3": idefics3_like(
        "idefics3", "Idefics3Processor",
        Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
    ),
    "idefics2": Family(
        "Idefics2Processor",
        Idefics2ImageProcessorPil(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False),
        llava_like("idefics2", tower("idefics2_vision", image_size=56), text("mistral"),
                   perceiver_config={"hidden_size": 48, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 4,
                                     "resampler_head_dim": 12, "num_key_value_heads": 2}),
        tokens=("<fake_token_around_image>", "<end_of_utterance>"), settings={"image_seq_len": 4},
    ),
    "deepseek_vl": Family(
        "DeepseekVLProcessor", DeepseekVLImageProcessorPil(size=SIZE, min_size=14),
        llava_like("deepseek_vl", tower("siglip_vision_model", vision_use_head=False), text("llama")),
        named={"image_token": "<image>"}, settings={"num_image_tokens": 16},
    ),
    "gemma3": Family(
        "Gemma3Processor", Gemma3ImageProcessorPil(size=SIZE),
        llava_like("gemma3", tower("siglip_vision_model"),
                   text("gemma3_text", head_dim=12, sliding_window=16, layer_types=["sliding_attention", "full_attention"]),
                   "<image_soft_token>",
                   mm_tokens_per_image=4),
        "<start_of_image>",
        named={"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
        settings={"image_seq_length": 4},
    ),
    "paligemma": Family(
        "PaliGemmaProcessor", siglip_pixels(),
        llava_like("paligemma", tower("siglip_vision_model", vision_use_head=False), text("gemma", head_dim=12),
                   projection_dim=48),
        "", named={"image_token": "<image>"},
    ),
    "paligemma2": Family(
        "PaliGemmaProcessor", siglip_pixels(),
        llava_like("paligemma", tower("siglip_vision_model", vision_use_head=False),
                   text("gemma2", head_dim=12, final_logit_softcapping=9.0, attn_logit_softcapping=None, sliding_window=1024,
                        layer_types=["sliding_attention", "full_attention"]),
                   projection_dim=48),
        "", named={"image_token": "<image>"},
    ),
    "pixtral": Family(
        "PixtralProcessor", PixtralImageProcessorPil(size={"longest_edge": 56}, patch_size={"height": 7, "width": 7}),
        llava_like("llava", PIXTRAL, text("mistral", head_dim=12), "[IMG]", vision_feature_layer=-1,
                   vision_feature_select_strategy="full"),
        "[IMG]", PIXTRAL_TOKENS, settings={"patch_size": 7},
    ),
    "mistral3": Family(
        "PixtralProcessor", PixtralImageProcessorPil(size={"longest_edge": 56}, patch_size={"height": 7, "width": 7}),
        llava_like("mistral3", PIXTRAL, text("mistral", head_dim=12), "[IMG]", spatial_merge_size=2),
        "[IMG]", PIXTRAL_TOKENS, settings={"patch_size": 7, "spatial_merge_size": 2},
    ),
    "aya_vision": Family(
        "AyaVisionProcessor", GotOcr2ImageProcessorPil(size=SIZE, crop_to_patches=True, max_patches=4),
        llava_like("aya_vision", tower("siglip_vision_model", vision_use_head=False),
                   text("cohere2", head_dim=12, sliding_window=16, layer_types=["sliding_attention", "full_attention"]),
                   "<|IMG_PATCH|>"),
        tokens=AYA_TOKENS, settings={"patch_size": 7, "img_size": 28, "downsample_factor": 2},
    ),
    "mllama": Family(
        "MllamaProcessor", MllamaImageProcessorPil(size=SIZE, max_image_tiles=4), mllama, "<|image|>",
        ("<|image|>", "<|python_tag|>"),
    ),
    "blip2_opt": blip_like("blip-2", "Blip2Processor", OPT, around="<s> $A"),
    "blip2_t5": blip_like("blip-2", "Blip2Processor", T5, around="$A </s>", scale=2.0),
    "instructblip_llama": blip_like("instructblip", "InstructBlipProcessor", text("llama"), around="<s> $A"),
    "instructblip_t5": blip_like("instructblip", "InstructBlipProcessor", T5, around="$A </s>", scale=2.0),
    "florence2": Family(
        "Florence2Processor", CLIPImageProcessorPil(size=SIZE, do_center_crop=False, image_seq_length=17), florence2, "",
        named={"image_token": "<image>"}, around="<s> $A </s>", scale=1.5,
    ),
    "kosmos2": Family(
        "Kosmos2Processor", clip_pixels(), kosmos2, "", settings={"num_patch_index_tokens": 4}, scale=1.0,
    ),
    "qwen3_vl_moe": qwen("qwen3_vl_moe", "Qwen3VLProcessor", {**VISION_3, "deepstack_visual_indexes": [0]}, head_dim=12,
                         num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
    "paddleocr_vl": Family(
        "PaddleOCRVLProcessor",
        PaddleOCRVLImageProcessorPil(patch_size=7, merge_size=2, size={"shortest_edge": 196, "longest_edge": 3136}),
        paddle, "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>", ("<|IMAGE_START|>", "<|IMAGE_END|>", "<|video|>"),
        named={"image_token": "<|IMAGE_PLACEHOLDER|>"},
    ),
    "video_llama_3": Family(
        "VideoLlama3Processor",
        VideoLlama3ImageProcessorPil(patch_size=7, merge_size=1, size={"shortest_edge": 196, "longest_edge": 784}),
        llava_like("video_llama_3", tower("video_llama_3_vision"), text("qwen2")),
        named={"image_token": "<image>", "video_token": "<video>"}, video="VideoLlama3VideoProcessor",
    ),
    "gemma4": Family(
        "Gemma4Processor", Gemma4ImageProcessorPil(patch_size=7, pooling_kernel_size=2, max_soft_tokens=70), gemma4,
        "<|image|>", ("<|video|>",), named=GEMMA4, settings={"image_seq_length": 8}, video="Gemma4VideoProcessor",
        scale=2.0,
    ),
    "internvl_qwen3": Family(
        "InternVLProcessor", GotOcr2ImageProcessorPil(size=SIZE, crop_to_patches=True, max_patches=4),
        llava_like("internvl", tower("internvl_vision", image_size=[28, 28], patch_size=[7, 7], use_qk_norm=True),
                   text("qwen3", head_dim=12), "<IMG_CONTEXT>", image_seq_length=4),
        "<IMG_CONTEXT>\n", named=INTERNVL, settings={"image_seq_length": 4}, video="InternVLVideoProcessor",
    ),
    "ovis2": Family(
        "Ovis2Processor", Ovis2ImageProcessorPil(size=SIZE, crop_to_patches=True, max_patches=4), ovis2,
        tokens=(*OVIS, "<IMG_ATOM>"), settings={"image_seq_length": 16},
    ),
    "janus": Family(
        "JanusProcessor", JanusImageProcessorPil(size=SIZE),
        llava_like("janus", {**tower("janus_vision_model"), "projection_dim": 48, "mlp_ratio": 2, "num_image_tokens": 16},
                   text("llama"),
                   vq_config={"embed_dim": 8, "num_embeddings": 32, "base_channels": 32, "channel_multiplier": [1, 1],
                              "num_res_blocks": 1, "projection_dim": 48, "num_patches": 4, "image_token_embed_dim": 48,
                              "latent_channels": 32}),
        named=JANUS, settings={"num_image_tokens": 16},
    ),
    "deepseek_vl_hybrid": Family(
        "DeepseekVLHybridProcessor",
        DeepseekVLHybridImageProcessorPil(size=SIZE, high_res_size={"height": 128, "width": 128}, min_size=14),
        llava_like("deepseek_vl_hybrid", tower("siglip_vision_model", vision_use_head=False), text("llama"),
                   high_res_vision_config={
                       "model_type": "sam_vision_model", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 128, "patch_size": 16, "output_channels": 16, "mlp_dim": 48, "window_size": 4,
                       "global_attn_indexes": [1]}),
        named={"image_token": "<image>"}, settings={"num_image_tokens": 16},
    ),
    "chameleon": Family(
        "ChameleonProcessor",
        ChameleonImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), chameleon, "",
        ("<racm3:break>", "<eoss>", "<reserved08706>", *CODES), named={"sep_token": "<reserved08706>"},
        settings={"image_seq_length": 64},
    ),
    "idefics": Family(
        "IdeficsProcessor", IdeficsImageProcessorPil(size=SIZE, image_size=28), idefics, "",
        ("<fake_token_around_image>",), settings={"image_size": 28},
    ),
    "git": Family("GitProcessor", clip_pixels(), git, "", around="<s> $A </s>"),
}  # fmt: skip


def stand_in_for_video_packages() -> None:
    """Let two processors be put together without packages of which no image needs anything."""
    smolvlm = importlib.import_module("transformers.models.smolvlm.processing_smolvlm")
    smolvlm.num2words = smolvlm.num2words or str
    if is_torchvision_available():
        return
    pixtral = importlib.import_module("transformers.models.pixtral")
    name = "transformers.models.pixtral.image_processing_pixtral"
    unused = ModuleType(name)
    unused.get_resize_output_image_size = None  # type: ignore[attr-defined]
    sys.modules[name] = unused
    try:
        found = importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor
    finally:
        del sys.modules[name]
    pixtral.PixtralProcessor = found


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a checkpoint of random weights of a family."""
    from emt_plugin.models.processors import load_processor

    stand_in_for_video_packages()
    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    words = _tokenizer(family)
    words.save_pretrained(folder)
    if family.second_tokenizer:
        _second_tokenizer().save_pretrained(folder / family.second_tokenizer)
    pixels = family.pixels.to_dict()
    settings = {
        "processor_class": family.processor, **family.settings,
        "image_processor": {**pixels, "image_processor_type": pixels["image_processor_type"].removesuffix("Pil")},
        **({"video_processor": {"video_processor_type": family.video}} if family.video else {}),
    }  # fmt: skip
    if family.processor == "PaliGemmaProcessor":
        settings["image_processor"]["image_seq_length"] = 16
    (folder / "processor_config.json").write_text(json.dumps(settings, default=str))
    if family.image:
        (folder / "chat_template.jinja").write_text(CHAT.replace("IMAGE", family.image))
    # Some processors add tokens of their own.
    full = load_processor(folder).tokenizer
    config = family.config(full.convert_tokens_to_ids)
    # Some configurations have no part for the language model.
    words_part = config.get("text_config", config)
    for part in (config, words_part):
        if part is words_part or "vocab_size" in part:
            part["vocab_size"] = len(full)
    torch.manual_seed(seed)
    made = AutoConfig.for_model(**config)
    model = AutoModelForImageTextToText.from_config(made)
    _make_it_look(model, family.scale)
    # As released checkpoints have it: an answer ends at the token that the template writes behind one.
    ends = [3, full.convert_tokens_to_ids("<|im_end|>")] if family.image else 3
    model.generation_config.update(eos_token_id=ends, pad_token_id=0)
    model.save_pretrained(folder)
    return folder


def _make_it_look(model: Any, scale: float) -> None:
    """Let what is in an image decide what is answered: at a model's own scale of random weights nothing does."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.any()) and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        elif parameter.ndim > 1 and ("embed" not in name or "patch_embed" in name):
            parameter.data.mul_(scale)
        elif name.endswith("gate"):
            parameter.data.fill_(1.0)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=1.0)


def _tokenizer(family: Family) -> PreTrainedTokenizerFast:
    plain = tokenizer("bytes")
    core = plain._tokenizer
    special = {"<s>": 2, "</s>": 3}
    if family.around != "$A":
        known = [(token, number) for token, number in special.items() if token in family.around]
        core.post_processor = processors.TemplateProcessing(single=family.around, special_tokens=known)
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side="left",
        **({"extra_special_tokens": dict(family.named)} if family.named else {}),
    )  # fmt: skip
    words.add_tokens(["<image>", "<|im_start|>", "<|im_end|>", *family.tokens], special_tokens=True)
    return words


def _second_tokenizer() -> PreTrainedTokenizerFast:
    """As BERT's: a start token before a text and another behind it."""
    words = tokenizer("bytes")
    words._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return words


# Families that stand for the others where time is short, and families so like others that only `make models-doc` tries them.
QUICK = {"llava", "llava_next", "qwen2_5_vl", "qwen3_5", "internvl", "smolvlm", "gemma3", "paligemma", "mllama", "blip2_t5",
         "instructblip_llama", "florence2"}  # fmt: skip
WIDE = {"paligemma2", "qwen3_vl_moe", "paddleocr_vl", "video_llama_3", "gemma4", "internvl_qwen3", "ovis2", "janus",
        "deepseek_vl_hybrid", "chameleon", "idefics", "git"}  # fmt: skip


def each(names: Iterable[str]) -> list[ParameterSet]:
    """Families as parameters of a test, marked by how often they are tried."""
    return [
        pytest.param(name, id=name, marks=pytest.mark.wide if name in WIDE else () if name in QUICK else pytest.mark.thorough)
        for name in names
    ]
