"""How answers are generated: greedy, by a configuration of our own, or as a checkpoint's own says.

A checkpoint may bring penalties, forced tokens or a stop token that is not its template's, and so answer otherwise than by
its most probable tokens; transformers follows it without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

from transformers import GenerationConfig

from emt_plugin.models.backend import MAX_NEW_TOKENS

# What has no place in a measurement, whoever asks for it: chance, clocks, other outputs, other caches.
NEVER = {
    "do_sample": False, "temperature": None, "top_k": None, "top_p": None, "min_p": None, "typical_p": None, "top_h": None,
    "epsilon_cutoff": None, "eta_cutoff": None, "max_time": None, "num_return_sequences": 1, "use_cache": True,
    "cache_implementation": None, "cache_config": None, "return_dict_in_generate": False, "output_scores": False,
    "output_logits": False, "output_attentions": False, "output_hidden_states": False, "prompt_lookup_num_tokens": None,
    "watermarking_config": None, "max_length": None,
}  # fmt: skip
# Of a configuration, what says how an answer comes about; all else is neutral or names the model's own tokens.
SHOWN = (
    "max_new_tokens", "min_new_tokens", "min_length", "num_beams", "repetition_penalty", "encoder_repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "guidance_scale",
    "exponential_decay_length_penalty", "penalty_alpha", "dola_layers", "stop_strings",
)  # fmt: skip


def own_generation(model: Any, ends: Sequence[int], pad: int) -> GenerationConfig:
    """Greedy, nothing penalised, forced or suppressed, until one of ``ends`` or ``MAX_NEW_TOKENS`` tokens.

    Args:
        model: from transformers; of its own configuration only the tokens that begin an answer are taken.
        ends: tokens that end an answer.
        pad: what stands behind an answer that ended before others of its batch.
    """
    theirs = model.generation_config
    return GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=list(ends),
        pad_token_id=pad,
        bos_token_id=theirs.bos_token_id,
        decoder_start_token_id=theirs.decoder_start_token_id,
        **NEVER,
    )


def checkpoint_generation(model: Any, ends: Sequence[int], pad: int) -> GenerationConfig:
    """The checkpoint's own configuration, less what has no place in a measurement: see ``NEVER``."""
    found = deepcopy(model.generation_config)
    found.update(**NEVER, eos_token_id=list(ends), pad_token_id=pad)
    found.max_new_tokens = found.max_new_tokens or MAX_NEW_TOKENS
    return found


def shown(found: GenerationConfig, mode: str, words: Iterable[str]) -> dict[str, Any]:
    """A configuration as plain data, for the record and the store's key: what is set of ``SHOWN``.

    Args:
        found: the configuration.
        mode: ``own`` or ``checkpoint``.
        words: the tokens that end an answer, as text.
    """
    neutral = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}
    said = {name: _plain(getattr(found, name, None)) for name in SHOWN}
    set_here = {name: value for name, value in said.items() if value not in (None, [], neutral.get(name))}
    return {"from": mode, **set_here, "stops_at": list(words)}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str | list) else repr(value)
