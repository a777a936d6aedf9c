"""Log-probabilities of all labels behind one prefill: one forward over the trie of their answers.

The trie's nodes lie side by side behind the cached prompt. A 4D attention mask lets each see the prompt, its own
ancestors and itself, and its position is the prompt's length plus its depth, so each sees exactly what it would see
in a text of its own. ``scored_one_by_one`` is the plain way, a whole forward for each label; it is what the packed
way is checked against, once for each loaded model, and what is used where a model cannot be given such a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from emt_plugin.models.abilities import with_cache
from emt_plugin.models.families import PREFIX_MODELS, first_position, has_encoder, ranked_words, start_token, writer
from emt_plugin.models.ranking.trie import Candidates, Trie, tries

MOST_NODES = 512
# Logits of this many nodes, images and words of the vocabulary are in memory at once.
MOST_LOGITS = 1 << 26
MASKABLE = {"sdpa", "eager"}
LAYERS = {"full_attention", "sliding_attention"}
# Inputs that say nothing of the prompt's tokens, whatever their shape.
OTHERS = ("pixel_", "qformer_")


@dataclass(frozen=True)
class Prompt:
    """A batch of prompts as the language model takes them.

    Attributes:
        ids: images x tokens, padded on the left, image tokens expanded.
        mask: images x tokens, 1 for a token and 0 for padding.
        vision: what the model is given besides, to see the images.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    vision: Mapping[str, Any]

    def inputs(self) -> dict[str, Any]:
        """What the model is given to see by, fresh for each call: some models write into it."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in self.vision.items()}

    def longer(self, keep: int, answer: torch.Tensor, positioned: bool = True, first: int = 0) -> dict[str, Any]:
        """The model's inputs for the first ``keep`` tokens and an answer behind them, images x tokens.

        What says something of each token goes on as it was at the last one: text.

        Args:
            keep: tokens of the prompt.
            answer: images x tokens.
            positioned: where there is padding, say which position each token has; a model that finds positions in several
                dimensions for itself must not be told.
            first: the position of a prompt's first token.
        """
        ids = torch.cat([self.ids[:, :keep], answer], dim=1)
        mask = torch.cat([self.mask[:, :keep], torch.ones_like(answer)], dim=1)
        made = {"input_ids": ids, "attention_mask": mask, **self.inputs()}
        # Positions are the model's own business, but for padding, which a forward without a cache does not look at.
        if positioned and not bool(self.mask.all()):
            made["position_ids"] = positions(mask) + first
        for name, value in self.vision.items():
            if isinstance(value, torch.Tensor) and value.shape[:2] == self.ids.shape and not name.startswith(OTHERS):
                last = value[:, keep - 1 : keep].expand(-1, answer.shape[1], *value.shape[2:])
                made[name] = torch.cat([value[:, :keep], last], dim=1)
        return made

    @property
    def positions(self) -> torch.Tensor:
        """Position of every token, images x tokens."""
        return positions(self.mask)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions of the tokens behind left padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def can_be_packed(model: Any) -> bool:
    """Whether a model's attention can be given a mask of one's own in every layer."""
    text = model.config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ())
    part = writer(model)
    return text._attn_implementation in MASKABLE and kinds <= LAYERS and hasattr(part, "model") and not has_encoder(model)


def finds_positions(model: Any) -> bool:
    """Whether a model gives an image's tokens positions in several dimensions (M-RoPE), which it finds for itself."""
    return hasattr(getattr(model, "model", None), "get_rope_index")


def nodes_of(found: Candidates) -> int:
    """How many tokens a cache must have room for behind the prompts: those of the largest trie."""
    return max(len(trie.tokens) for trie in tries(0, found, MOST_NODES))


def scored_packed(model: Any, cache: Any, prompt: Prompt, found: Candidates) -> torch.Tensor:
    """Log-probability of every label, from the cache of the prefilled prompts; the cache is cut back to the prompts.

    Args:
        model: from transformers, with a language-model head.
        cache: a ``DynamicCache`` whose first tokens are the prompts', all layers whole.
        prompt: the prompts.
        found: the answers; their tokens behind the given ones are scored.

    Returns:
        Images x labels, natural logarithms, float64.
    """
    shared = prompt.ids.shape[1] - found.dropped - 1
    crop(model, cache, cache.get_seq_length() - shared)
    scores = torch.zeros(len(prompt.ids), len(found.answers), dtype=torch.float64, device=prompt.ids.device)
    root = int(prompt.ids[0, shared])
    for trie in tries(root, found, MOST_NODES):
        hidden = _hidden(model, cache, prompt, trie, shared)
        crop(model, cache, len(trie.tokens))
        _add_edges(model, hidden, trie, scores)
    return scores


def crop(model: Any, cache: Any, tokens: int) -> None:
    """Take the last tokens out of a cache, but for layers that hold an image's instead of the text's."""
    crossing = getattr(model.config.get_text_config(decoder=True), "cross_attention_layers", None) or ()
    for number, layer in enumerate(cache.layers):
        if number not in crossing:
            layer.crop(-tokens)


def scored_one_by_one(model: Any, prompt: Prompt, found: Candidates, labels: Sequence[int]) -> torch.Tensor:
    """The same for some labels, by a whole forward for each: images x labels, float64."""
    if has_encoder(model):
        return torch.stack([_decoded(model, prompt, found, label) for label in labels], dim=1)
    columns = []
    keep = prompt.ids.shape[1] - found.dropped
    for label in labels:
        answer = torch.tensor(found.answers[label], device=prompt.ids.device).expand(len(prompt.ids), -1)
        wanted = answer.shape[1] - found.given
        inputs = prompt.longer(keep, answer, not finds_positions(model), first_position(model))
        mark_answer(model, inputs, keep)
        logits = model(**inputs, logits_to_keep=wanted + 1, use_cache=False).logits
        ranked = logits[:, -wanted - 1 : -1].float().log_softmax(-1)
        columns.append(ranked.gather(-1, answer[:, found.given :, None]).double().sum((1, 2)))
    return torch.stack(columns, dim=1)


def mark_answer(model: Any, inputs: dict[str, Any], keep: int) -> None:
    """Tell a model that reads a prompt in both directions that what is behind ``keep`` tokens is the answer."""
    if model.config.model_type in PREFIX_MODELS and "token_type_ids" in inputs:
        inputs["token_type_ids"][:, keep:] = 1


def _decoded(model: Any, prompt: Prompt, found: Candidates, label: int) -> torch.Tensor:
    """Log-probability of one label's answer, written by a decoder: images."""
    answer = torch.tensor(found.answers[label], device=prompt.ids.device).expand(len(prompt.ids), -1)
    begin = torch.full_like(answer[:, :1], start_token(model))
    logits = model(
        input_ids=prompt.ids,
        attention_mask=prompt.mask,
        decoder_input_ids=torch.cat([begin, answer[:, :-1]], dim=1),
        use_cache=False,
        **prompt.inputs(),
    ).logits
    ranked: torch.Tensor = logits.float().log_softmax(-1).gather(-1, answer[..., None])[:, found.given :, 0]
    return ranked.double().sum(-1)


def _hidden(model: Any, cache: Any, prompt: Prompt, trie: Trie, shared: int) -> torch.Tensor:
    """Last hidden states of a trie's nodes, images x nodes x width."""
    device, images = prompt.ids.device, len(prompt.ids)
    depths = torch.tensor(trie.depths, device=device)
    at = prompt.positions[:, shared, None] + depths
    beside = {}
    if "cross_attention_mask" in prompt.vision:
        # Text behind an image sees of it what the text before it saw.
        beside["cross_attention_mask"] = prompt.vision["cross_attention_mask"][:, -1:].expand(-1, len(depths), -1, -1)
    part = writer(model).model
    hidden: torch.Tensor = part(
        input_ids=torch.tensor(trie.tokens, device=device).expand(images, -1),
        attention_mask=_masks(model, prompt, trie, shared, at),
        position_ids=rotary(model, at + first_position(model)),
        use_cache=True,
        **with_cache(part, cache),
        **beside,
    ).last_hidden_state
    return hidden


def rotary(model: Any, at: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Positions of tokens behind a prompt as the model's rotary embedding takes them.

    Text goes on by one behind an image, on all axes alike.

    Args:
        model: it has seen the prompts last.
        at: rows x tokens, counted as if images were text.
        rows: the prompt of each row; None where the rows are the prompts.
    """
    if not finds_positions(model):
        return at
    deltas = model.model.rope_deltas.to(at.device).reshape(-1, 1)
    behind: torch.Tensor = at + (deltas if rows is None else deltas[rows])
    return behind.expand(3, *at.shape)


def _masks(model: Any, prompt: Prompt, trie: Trie, shared: int, at: torch.Tensor) -> Any:
    """Who may be seen, as what is added to attention scores: one mask, or one for each kind of layer."""
    device = prompt.ids.device
    above = ancestors(trie).to(device)
    # Without padding all images have the same mask.
    seen = prompt.mask[:, :shared].bool()
    seen = seen[:1] if bool(seen.all()) else seen
    rows = len(seen)
    whole = torch.cat(
        [seen[:, None].expand(-1, len(trie.tokens), -1), above.expand(rows, -1, -1)], dim=2
    )  # images x nodes x (prompt + nodes)
    text = model.config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ())
    window = getattr(text, "sliding_window", None)
    # Where nothing is out of a window's reach, some models that build masks of their own take one for all layers alone.
    if window is None or (kinds and "sliding_attention" not in kinds) or int(at.max()) < window:
        return added(whole, len(prompt.ids), model.dtype)
    of_prompt = prompt.positions[:rows, None, :shared]
    of_nodes = at[:rows, None]
    distance = at[:rows, :, None] - torch.cat([of_prompt, of_nodes], dim=2)
    near = added(whole & (distance < window), len(prompt.ids), model.dtype)
    if "full_attention" in kinds:
        return {"full_attention": added(whole, len(prompt.ids), model.dtype), "sliding_attention": near}
    return near


def ancestors(trie: Trie) -> torch.Tensor:
    """Nodes x nodes: whether the second is the first itself or before it."""
    size = len(trie.tokens)
    above = torch.zeros(size, size, dtype=torch.bool)
    for node, parent in enumerate(trie.parents):
        if parent >= 0:
            above[node] = above[parent]
        above[node, node] = True
    return above


def added(seen: torch.Tensor, images: int, dtype: torch.dtype) -> torch.Tensor:
    """Who is seen, rows x nodes x tokens, as what is added to attention scores: images x 1 x nodes x tokens."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
    return mask[:, None].expand(images, -1, -1, -1)


def _add_edges(model: Any, hidden: torch.Tensor, trie: Trie, scores: torch.Tensor) -> None:
    """Add the log-probability of every scored token to its label's."""
    head = model.get_output_embeddings()
    step = max(1, MOST_LOGITS // (len(hidden) * head.weight.shape[0]))
    nodes, tokens, labels = (torch.tensor(column, device=hidden.device) for column in zip(*trie.edges, strict=True))
    for start in range(0, len(trie.tokens), step):
        within = (nodes >= start) & (nodes < start + step)
        if not bool(within.any()):
            continue
        logits = ranked_words(model, head(hidden[:, start : start + step])).float()
        ranked = logits[:, nodes[within] - start, tokens[within]] - logits.logsumexp(-1)[:, nodes[within] - start]
        scores.index_add_(1, labels[within], ranked.double())
