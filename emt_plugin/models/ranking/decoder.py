"""Log-probabilities of all labels by a decoder behind an encoder: one forward over the trie of their answers.

As in ``label_scoring``, a mask lets each node see its ancestors alone. A decoder that reads positions as distances between
tokens is told those in the trie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from emt_plugin.models.abilities import cache_in, with_cache
from emt_plugin.models.families import start_token, writer
from emt_plugin.models.ranking.packed import MASKABLE, MOST_LOGITS, MOST_NODES, Prompt, added, ancestors
from emt_plugin.models.ranking.trie import Candidates, Trie, tries


def can_be_decoded(model: Any) -> bool:
    """Whether a decoder reads positions as distances, from one table for all of its layers, and takes a mask of ours."""
    text = model.config.get_text_config(decoder=True)
    return text._attn_implementation in MASKABLE and len(_tables(model)) == 1


def scored_decoded(model: Any, prompt: Prompt, found: Candidates) -> torch.Tensor:
    """Log-probability of every label: images x labels, natural logarithms, float64."""
    begin = start_token(model)
    made = model.generate(
        input_ids=prompt.ids, attention_mask=prompt.mask, decoder_input_ids=torch.full_like(prompt.ids[:, :1], begin),
        **prompt.inputs(), max_new_tokens=1, do_sample=False, num_beams=1, return_dict_in_generate=True,
    )  # fmt: skip
    encoded = cache_in(made).cross_attention_cache
    images = len(prompt.ids)
    scores = torch.zeros(images, len(found.answers), dtype=torch.float64, device=prompt.ids.device)
    words = model.get_output_embeddings().weight.shape[0]
    for trie in tries(begin, found, max(1, min(MOST_NODES, MOST_LOGITS // (images * words)))):
        ranked = _logits(model, encoded, prompt, trie).float().log_softmax(-1)
        nodes, tokens, labels = (torch.tensor(column, device=ranked.device) for column in zip(*trie.edges, strict=True))
        scores.index_add_(1, labels, ranked[:, nodes, tokens].double())
    return scores


def _logits(model: Any, encoded: Any, prompt: Prompt, trie: Trie) -> torch.Tensor:
    """What follows each node of a trie: images x nodes x words."""
    part, device, images = writer(model), prompt.ids.device, len(prompt.ids)
    # What the encoder made is in the cache: only its shape is looked at.
    width = part.config.get_text_config().hidden_size
    nothing = torch.zeros(1, 1, width, dtype=part.dtype, device=device).expand(*prompt.ids.shape, -1)
    with _distances(model, trie):
        made = part(
            decoder_input_ids=torch.tensor(trie.tokens, device=device).expand(images, -1),
            decoder_attention_mask=added(ancestors(trie).to(device)[None], images, part.dtype),
            attention_mask=prompt.mask,
            encoder_outputs=BaseModelOutput(last_hidden_state=nothing),
            **with_cache(part, EncoderDecoderCache(DynamicCache(), encoded)),
            use_cache=True,
        )
    return torch.as_tensor(made.logits)


@contextmanager
def _distances(model: Any, trie: Trie) -> Iterator[None]:
    """A context in which the decoder takes for a distance between nodes that between their depths."""
    (table,) = _tables(model)
    depths = torch.tensor(trie.depths)
    deep = max(trie.depths) + 1

    def bias(*arguments: Any, **options: Any) -> torch.Tensor:
        along = type(table).compute_bias(table, deep, deep)
        return torch.as_tensor(along[:, :, depths][:, :, :, depths])

    table.compute_bias = bias
    try:
        yield
    finally:
        del table.compute_bias


def _tables(model: Any) -> list[Any]:
    decoder = writer(model).get_decoder()
    return [
        module
        for module in decoder.modules()
        if hasattr(module, "compute_bias") and getattr(module, "has_relative_attention_bias", False)
    ]
