"""What families of models have that their configurations do not tell: how they are asked, and where they count from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PlainPrompt:
    """How a model without a chat template is asked.

    Attributes:
        text: what its processor is given, with ``{prompt}``.
        written: what the processor itself writes behind that.
        before: what stands between the prompt and its answer, where the answer goes on from it.
        source: where that is said.
        whole: whether what a tokenizer puts behind a text is part of it.
    """

    text: str
    source: str
    written: str = ""
    before: str = " "
    whole: bool = True


# By the class of the processor, which is what is asked.
PLAIN_PROMPTS = {
    "Blip2Processor": PlainPrompt("Question: {prompt} Answer:", "https://huggingface.co/docs/transformers/model_doc/blip-2"),
    "InstructBlipProcessor": PlainPrompt("{prompt}", "https://huggingface.co/docs/transformers/model_doc/instructblip"),
    "PaliGemmaProcessor": PlainPrompt(
        "<image>answer en {prompt}",
        "https://ai.google.dev/gemma/docs/paligemma/prompt-system-instructions",
        written="\n",
        before="",
    ),
    "Florence2Processor": PlainPrompt("{prompt}", "https://huggingface.co/docs/transformers/model_doc/florence2", before=""),
    "Kosmos2Processor": PlainPrompt(
        "Question: {prompt} Answer:", "https://huggingface.co/docs/transformers/model_doc/kosmos-2"
    ),
    "IdeficsProcessor": PlainPrompt("Question: {prompt} Answer:", "https://huggingface.co/docs/transformers/tasks/idefics"),
    # The processor ends a user's turn with the token that the released tokenizer has for that.
    "ChameleonProcessor": PlainPrompt(
        "{prompt}<image>",
        "https://huggingface.co/docs/transformers/model_doc/chameleon",
        written="<reserved08706>",
        before="",
    ),
    "GitProcessor": PlainPrompt("{prompt}", "https://huggingface.co/docs/transformers/model_doc/git", whole=False),
}
# Processors that are given an image for each text side by side: else one puts it behind, and one takes it for a page.
SIDE_BY_SIDE = {"IdeficsProcessor", "GotOcr2Processor"}
# Models that read a prompt in both directions, and are told by a token's type where the answer begins.
PREFIX_MODELS = {"paligemma"}
# The position of a prompt's first token, where it is not 0.
FIRST_POSITION = {"paligemma": 1}
# Models that keep what their head gives within bounds, where their configuration has some.
CAPPED = {"paligemma", "gemma3n", "gemma4", "gemma4_unified"}
# Names of the part that hands a language model what a tower sees, and of the language model itself.
PROJECTORS = ("multi_modal_projector", "connector", "merger", "language_projection", "image_to_text_projection", "aligner")
LANGUAGE_MODELS = ("language_model", "text_model")


def plain_prompt(processor: Any) -> PlainPrompt | None:
    """How a processor without a chat template is asked; None where nothing is known."""
    return PLAIN_PROMPTS.get(type(processor).__name__)


def first_position(model: Any) -> int:
    """The position of a prompt's first token."""
    return FIRST_POSITION.get(model.config.model_type, 0)


def ranked_words(model: Any, logits: Any) -> Any:
    """What a model makes of what its head gives."""
    cap = getattr(model.config.get_text_config(decoder=True), "final_logit_softcapping", None)
    return logits if cap is None or model.config.model_type not in CAPPED else (logits / cap).tanh() * cap


def writer(model: Any) -> Any:
    """The part of a model that writes text and can be called without an image: the model, or the language model in it."""
    if hasattr(model, "model"):
        return model
    for name in LANGUAGE_MODELS:
        part = getattr(model, name, None)
        if part is not None and callable(getattr(part, "generate", None)):
            return part
    return model


def has_encoder(model: Any) -> bool:
    """Whether a model reads a prompt with an encoder and writes the answer with a decoder."""
    return bool(
        getattr(writer(model).config, "is_encoder_decoder", False) or getattr(model.config, "is_encoder_decoder", False)
    )


def start_token(model: Any) -> int:
    """The token that a decoder begins with."""
    configs = (model.generation_config, writer(model).generation_config, writer(model).config, model.config.get_text_config())
    for config in configs:
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    return int(model.config.get_text_config().pad_token_id or 0)
