"""Log-probabilities of all labels behind one prefill, for models that take no mask of ours: a row for each label.

The cache of the prefilled prompts is copied once for each label, and each answer goes on from its own copy. That needs
nothing of a model but what generating needs, so it holds for layers of any kind and for decoders behind an encoder.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from emt_plugin.models.abilities import cache_in, with_cache
from emt_plugin.models.families import first_position, has_encoder, start_token, writer
from emt_plugin.models.ranking.packed import LAYERS, Prompt, finds_positions, mark_answer, positions, rotary
from emt_plugin.models.ranking.trie import Candidates

MOST_ROWS = 256


def scored_expanded(model: Any, prompt: Prompt, found: Candidates) -> torch.Tensor:
    """Log-probability of every label: images x labels, natural logarithms, float64.

    Args:
        model: from transformers.
        prompt: the prompts.
        found: the answers; their tokens behind the given ones are scored.
    """
    first, cache, read = _prefilled(model, prompt, found)
    images, device = len(prompt.ids), prompt.ids.device
    labels = len(found.answers)
    scores = torch.zeros(images, labels, dtype=torch.float64, device=device)
    step = max(1, MOST_ROWS // images)
    for start in range(0, labels, step):
        chunk = [torch.tensor(answer[found.given :]) for answer in found.answers[start : start + step]]
        tokens = torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True).to(device)
        real = torch.nn.utils.rnn.pad_sequence([torch.ones_like(answer) for answer in chunk], batch_first=True).to(device)
        known = first[:, None, :].expand(-1, len(chunk), -1)
        ranked = known.gather(-1, tokens[None, :, :1].expand(images, -1, -1))[..., 0].double()
        if tokens.shape[1] > 1:
            rows = torch.arange(images, device=device).repeat_interleave(len(chunk))
            behind = _behind(model, cache, prompt, read, rows, tokens.repeat(images, 1))
            behind = behind.view(images, len(chunk), -1) * real[:, 1:]
            ranked = ranked + behind.double().sum(-1)
        scores[:, start : start + step] = ranked
    return scores


def _prefilled(model: Any, prompt: Prompt, found: Candidates) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Log-probabilities of the first scored token, images x words; the cache before it; and the mask of what is in it."""
    given = torch.tensor(found.answers[0][: found.given], dtype=torch.long, device=prompt.ids.device).expand(
        len(prompt.ids), -1
    )
    wanted = {"max_new_tokens": 1, "do_sample": False, "num_beams": 1, "return_dict_in_generate": True, "output_logits": True}
    if has_encoder(model):
        begin = torch.full_like(prompt.ids[:, :1], start_token(model))
        made = model.generate(
            input_ids=prompt.ids, attention_mask=prompt.mask, decoder_input_ids=torch.cat([begin, given], dim=1),
            **prompt.inputs(), **wanted,
        )  # fmt: skip
        read = prompt.mask
    else:
        keep = prompt.ids.shape[1] - found.dropped
        inputs = prompt.longer(keep, given, positioned=False)
        mark_answer(model, inputs, keep)
        made = model.generate(**inputs, **wanted)
        read = inputs["attention_mask"]
    return made.logits[0].float().log_softmax(-1), cache_in(made), read


def _behind(
    model: Any, cache: Any, prompt: Prompt, read: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """Log-probability of every token but the first, rows x tokens, of answers behind the prompts of some images."""
    own = deepcopy(cache)
    own.reorder_cache(rows)
    text = model.config.get_text_config(decoder=True)
    whole = set(getattr(text, "layer_types", None) or ()) <= LAYERS
    known, targets = tokens[:, :-1], tokens[:, 1:]
    found = []
    # Layers that carry a state go on from it by one token at a time.
    for start, stop in [(0, known.shape[1])] if whole else [(at, at + 1) for at in range(known.shape[1])]:
        logits = _logits(model, own, read, rows, known, start, stop, prompt)
        found.append(logits.float().log_softmax(-1).gather(-1, targets[:, start:stop, None])[..., 0])
    return torch.cat(found, dim=1)


def _logits(
    model: Any, cache: Any, read: torch.Tensor, rows: torch.Tensor, known: torch.Tensor, start: int, stop: int, prompt: Prompt
) -> torch.Tensor:
    """What follows tokens ``start`` to ``stop`` of the answers: rows x tokens x words."""
    seen = read[rows]
    part = writer(model)
    if has_encoder(model):
        # What the encoder made is in the cache: only its shape is looked at.
        width = part.config.get_text_config().hidden_size
        nothing = torch.zeros(1, 1, width, dtype=part.dtype, device=known.device).expand(*seen.shape, -1)
        made = part(
            decoder_input_ids=known[:, start:stop], attention_mask=seen, use_cache=True, **with_cache(part, cache),
            encoder_outputs=BaseModelOutput(last_hidden_state=nothing),
        )  # fmt: skip
        return torch.as_tensor(made.logits)
    at = positions(seen)[:, -1:] + first_position(model) + torch.arange(start + 1, stop + 1, device=known.device)
    beside: dict[str, Any] = {}
    if finds_positions(model) or not bool(read.all()):
        # Else the model goes on from what is in the cache.
        beside["position_ids"] = rotary(model, at, rows)
    if "cross_attention_mask" in prompt.vision:
        beside["cross_attention_mask"] = prompt.vision["cross_attention_mask"][rows, -1:].expand(-1, stop - start, -1, -1)
    made = part(
        input_ids=known[:, start:stop], attention_mask=torch.cat([seen, torch.ones_like(known[:, :stop])], dim=1),
        **with_cache(part, cache), use_cache=True, **beside,
    )  # fmt: skip
    return torch.as_tensor(made.logits)
