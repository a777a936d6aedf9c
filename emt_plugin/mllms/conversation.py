"""Conversations as a checkpoint's own chat template writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emt_plugin.catalog import Question
from emt_plugin.errors import CouldNotRun
from emt_plugin.mllms.label_trie import Candidates, candidates

# Stands for an answer to find out what a template writes around one.
MARK = "(an answer)"


@dataclass(frozen=True)
class Conversation:
    """A user's turn as the template takes it, and as text.

    Attributes:
        content: what the template is given as the user's content.
        text: the rendered prompt, up to where the answer begins.
    """

    content: Any
    text: str


def conversation(processor: Any, prompt: str, name: str) -> Conversation:
    """A user's turn with one image and a question, through a processor's chat template.

    Raises:
        CouldNotRun: there is no chat template, or it drops the image.
    """
    if not getattr(processor, "chat_template", None) and not getattr(processor.tokenizer, "chat_template", None):
        raise CouldNotRun(
            f"{name} has no chat template: set processor.chat_template to its base model's and save the processor"
        )
    image_token = getattr(processor, "image_token", None)
    parts: list[Any] = [[{"type": "image"}, {"type": "text", "text": prompt}]]
    if image_token:
        # The template of a text model takes plain text: there the image token goes into the text.
        parts.append(f"{image_token}\n{prompt}")
    for content in parts:
        text = _rendered(processor, [{"role": "user", "content": content}], add_generation_prompt=True)
        if text and (not image_token or image_token in text):
            return Conversation(content, text)
    raise CouldNotRun(f"the chat template of {name} drops the image: '{image_token}' is not in the rendered prompt")


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered conversation; a template that writes the start token itself gets no second one."""
    return list(tokenizer(text, add_special_tokens=adds_special_tokens(tokenizer, text))["input_ids"])


def adds_special_tokens(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer is to add its special tokens to a rendered conversation."""
    return not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))


@dataclass(frozen=True)
class Answered:
    """A conversation with its answer.

    Attributes:
        text: all of it, up to the token that ends the answer.
        new_tokens: how many of its tokens, at the end, are the answer's and not the prompt's.
    """

    text: str
    new_tokens: int


def answered(processor: Any, asked: Conversation, answers: Sequence[str], ends: list[int], name: str) -> list[Answered]:
    """The conversations with some answers, as the template writes them.

    Args:
        processor: the checkpoint's.
        asked: the user's turn.
        answers: what the model says.
        ends: tokens that end an answer.
        name: the checkpoint, for messages.

    Raises:
        CouldNotRun: the template takes no answer, or changes it.
    """
    tokenizer = processor.tokenizer
    prompt = tokens_of(tokenizer, asked.text)
    before, end = _frame(processor, asked, answers, ends, name)
    found = []
    for answer in answers:
        text = before + answer + str(tokenizer.convert_ids_to_tokens(end))
        tokens = tokens_of(tokenizer, text)
        shared = next((at for at, pair in enumerate(zip(prompt, tokens, strict=False)) if pair[0] != pair[1]), len(prompt))
        if tokens[-1] != end or shared == len(tokens):
            raise CouldNotRun(f"the tokenizer of {name} does not take the end of an answer for one token")
        found.append(Answered(text, len(tokens) - shared))
    return found


def label_candidates(processor: Any, asked: Conversation, question: Question, ends: list[int], name: str) -> Candidates:
    """The tokens of every label's answer: those of the whole conversation with it, less the prompt's.

    A label is never tokenised alone: what it is in tokens depends on what stands before it.

    Args:
        processor: the checkpoint's.
        asked: the user's turn.
        question: the answers and the opening that they share.
        ends: tokens that end an answer.
        name: the checkpoint, for messages.

    Raises:
        CouldNotRun: the template takes no answer, or changes it.
    """
    tokenizer = processor.tokenizer
    prompt = tokens_of(tokenizer, asked.text)
    before, end = _frame(processor, asked, question.answers, ends, name)
    full = [[*tokens_of(tokenizer, before + answer), end] for answer in question.answers]
    stem = tokens_of(tokenizer, before + question.stem) if question.stem else prompt
    try:
        return candidates(prompt, stem, full)
    except ValueError:
        raise CouldNotRun(f"the chat template of {name} writes a prompt that no answer goes on from") from None


def _frame(processor: Any, asked: Conversation, answers: Sequence[str], ends: list[int], name: str) -> tuple[str, int]:
    """What the template writes before any of these answers, and the token with which it ends them."""
    kind, before, behind = _around_an_answer(processor, asked, name)
    for answer in answers:
        if _with_answer(processor, asked, answer, kind) != before + answer + behind:
            raise CouldNotRun(f"the chat template of {name} changes the answer '{answer}', so labels cannot be ranked by it")
    return before, _end_token(processor.tokenizer, behind, ends)


def _end_token(tokenizer: Any, behind: str, ends: list[int]) -> int:
    """The token with which a template ends an answer, else the one at which generation stops."""
    for token in (*ends, *tokenizer.all_special_ids):
        word = tokenizer.convert_ids_to_tokens(token)
        if word and behind.lstrip().startswith(word):
            return int(token)
    return ends[0]


def _around_an_answer(processor: Any, asked: Conversation, name: str) -> tuple[str, str, str]:
    """How the template takes an answer, and what it writes before and behind one."""
    for kind in ("parts", "text") if isinstance(asked.content, list) else ("text",):
        text = _with_answer(processor, asked, MARK, kind)
        if text and text.count(MARK) == 1 and str(_parts(MARK)) not in text:
            before, _, behind = text.partition(MARK)
            return kind, before, behind
    raise CouldNotRun(f"the chat template of {name} cannot be given an answer, so labels cannot be ranked by it")


def _with_answer(processor: Any, asked: Conversation, answer: str, kind: str) -> str | None:
    """The whole conversation; some templates take an answer in parts, some as plain text."""
    turns = [
        {"role": "user", "content": asked.content},
        {"role": "assistant", "content": _parts(answer) if kind == "parts" else answer},
    ]
    return _rendered(processor, turns, add_generation_prompt=False)


def _parts(answer: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": answer}]


def _rendered(processor: Any, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str | None:
    """Turns through the template; None where the template takes no such content."""
    from jinja2 import TemplateError

    owner = processor if getattr(processor, "chat_template", None) else processor.tokenizer
    try:
        return str(owner.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False))
    except (TemplateError, TypeError):
        return None
