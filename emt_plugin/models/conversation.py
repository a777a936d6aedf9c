"""Conversations as a checkpoint's own chat template writes them, or its family's plain prompt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emt_plugin.catalog import Question
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.families import SIDE_BY_SIDE, PlainPrompt, plain_prompt
from emt_plugin.models.ranking.trie import Candidates, candidates, common_prefix

# Stands for an answer to find out what a template writes around one.
MARK = "(an answer)"


@dataclass(frozen=True)
class Conversation:
    """A user's turn as the template takes it, and as text.

    Attributes:
        content: what the template is given as the user's content.
        text: the rendered prompt, up to where the answer begins.
        plain: the plain prompt that it was written by, where there is no template.
    """

    content: Any
    text: str
    plain: PlainPrompt | None = None


def conversation(processor: Any, prompt: str, name: str) -> Conversation:
    """A user's turn with one image and a question, through a processor's chat template.

    Raises:
        CouldNotRun: there is no chat template and no plain prompt is known, or it drops the image.
    """
    plain = plain_prompt(processor)
    if plain and not _template(processor):
        return Conversation(prompt, plain.text.format(prompt=prompt), plain)
    _refuse_without_a_template(processor, name)
    # Some processors have it as more than text, and some write the token that an image begins with in its place.
    image_token, begins = (str(getattr(processor, name, None) or "") for name in ("image_token", "boi_token"))
    parts: list[Any] = [[{"type": "image"}, {"type": "text", "text": prompt}]]
    if image_token:
        # The template of a text model takes plain text: there the image token goes into the text.
        parts.append(f"{image_token}\n{prompt}")
    failed = ""
    for content in parts:
        try:
            text = _written(processor, [{"role": "user", "content": content}], add_generation_prompt=True)
        except Exception as error:  # A template is a program, and may fail as any does.
            failed = failed or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        if text and (not image_token or image_token in text or (begins and begins in text)):
            return Conversation(content, text)
    if failed:
        raise CouldNotRun(f"the chat template of {name} fails on a user's turn with an image ({failed})")
    raise CouldNotRun(f"the chat template of {name} drops the image: '{image_token}' is not in the rendered prompt")


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered conversation; a template that writes the start token itself gets no second one."""
    tokens = list(tokenizer(text, add_special_tokens=adds_special_tokens(tokenizer, text))["input_ids"])
    return tokens[: len(tokens) - appended(tokenizer, text)]


def adds_special_tokens(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer is to add its special tokens to a rendered conversation."""
    return not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))


def appended(tokenizer: Any, text: str) -> int:
    """How many tokens a tokenizer puts behind a text: behind an end token nothing would be answered."""
    if not adds_special_tokens(tokenizer, text):
        return 0
    whole, plain = (list(tokenizer(text, add_special_tokens=added)["input_ids"]) for added in (True, False))
    extra = len(whole) - len(plain)
    before = next((at for at in range(extra + 1) if whole[at : at + len(plain)] == plain), extra)
    return extra - before


def processed(processor: Any, texts: Sequence[str], images: Sequence[Any], padding_side: str) -> Any:
    """Rendered conversations with an image each as the model takes them, without what a tokenizer puts behind a text.

    Args:
        processor: the checkpoint's.
        texts: rendered, all by the same template.
        images: RGB, one for each.
        padding_side: ``left`` to go on from them, ``right`` to learn them.
    """
    with warnings.catch_warnings():
        # Some processors ask numpy by a name that is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        made = processor(
            text=list(texts),
            images=list(images) if type(processor).__name__ in SIDE_BY_SIDE else [[image] for image in images],
            return_tensors="pt",
            padding=True,
            padding_side=padding_side,
            # Where they are wanted, which ones is the processor's business.
            **({} if adds_special_tokens(processor.tokenizer, texts[0]) else {"add_special_tokens": False}),
        )
    # For training alone.
    made.pop("labels", None)
    plain = None if _template(processor) else plain_prompt(processor)
    if plain and plain.whole:
        return made
    extra = appended(processor.tokenizer, texts[0])
    if not extra:
        return made
    shape = made["input_ids"].shape
    if padding_side == "left":
        for name, value in made.items():
            if getattr(value, "shape", ())[:2] == shape:
                made[name] = value[:, : shape[1] - extra]
        return made
    for row, length in enumerate(made["attention_mask"].sum(-1).tolist()):
        made["attention_mask"][row, length - extra : length] = 0
        made["input_ids"][row, length - extra : length] = processor.tokenizer.pad_token_id
    return made


def end_of_turn(processor: Any, asked: Conversation, name: str) -> list[int]:
    """The token that the template itself writes behind an answer; empty where it writes none, or takes no answer."""
    if asked.plain:
        return []
    try:
        _, _, behind = _around_an_answer(processor, asked, name)
    except CouldNotRun:
        return []
    words = {str(token): number for number, token in processor.tokenizer.added_tokens_decoder.items()}
    found = [word for word in words if word.strip() and behind.lstrip().startswith(word.strip())]
    return [words[max(found, key=len)]] if found else []


@dataclass(frozen=True)
class Answered:
    """A conversation with its answer.

    Attributes:
        prompt: the rendered prompt.
        dropped: how many of its last tokens an answer does not go on from: a tokenizer may merge across the boundary.
        tokens: what stands behind the others: the answer's tokens, up to the one that ends it.
    """

    prompt: str
    dropped: int
    tokens: tuple[int, ...]


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
    prompt = tokens_of(tokenizer, asked.text + (asked.plain.written if asked.plain else ""))
    before, end = _frame(processor, asked, answers, ends, name)
    found = []
    for answer in answers:
        text = before + answer + str(tokenizer.convert_ids_to_tokens(end))
        tokens = tokens_of(tokenizer, text)
        shared = next((at for at, pair in enumerate(zip(prompt, tokens, strict=False)) if pair[0] != pair[1]), len(prompt))
        if tokens[-1] != end or shared == len(tokens):
            raise CouldNotRun(f"the tokenizer of {name} does not take the end of an answer for one token")
        found.append(Answered(asked.text, len(prompt) - shared, tuple(tokens[shared:])))
    return found


def decoded_candidates(tokenizer: Any, question: Question, ends: list[int]) -> Candidates:
    """The tokens of every label's answer as a decoder behind an encoder writes them: those of the answer alone."""
    full = [list(tokenizer(answer)["input_ids"]) for answer in question.answers]
    full = [tokens if tokens and tokens[-1] in ends else [*tokens, ends[0]] for tokens in full]
    given = common_prefix(tokenizer(question.stem)["input_ids"], *full) if question.stem else 0
    return Candidates(0, given, tuple(tuple(tokens) for tokens in full))


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
    prompt = tokens_of(tokenizer, asked.text + (asked.plain.written if asked.plain else ""))
    before, end = _frame(processor, asked, question.answers, ends, name)
    full = [[*tokens_of(tokenizer, before + answer), end] for answer in question.answers]
    stem = tokens_of(tokenizer, before + question.stem) if question.stem else prompt
    try:
        return candidates(prompt, stem, full)
    except ValueError:
        raise CouldNotRun(f"the chat template of {name} writes a prompt that no answer goes on from") from None


def _frame(processor: Any, asked: Conversation, answers: Sequence[str], ends: list[int], name: str) -> tuple[str, int]:
    """What the template writes before any of these answers, and the token with which it ends them."""
    if asked.plain:
        return asked.text + asked.plain.written + asked.plain.before, ends[0]
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
    try:
        return _written(processor, turns, add_generation_prompt)
    except Exception:  # A template is a program, and may fail as any does.
        return None


def _written(processor: Any, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """Turns through the template.

    Raises:
        Exception: whatever the template leads to.
    """
    from transformers import ProcessorMixin

    owner = processor if getattr(processor, "chat_template", None) else processor.tokenizer
    # What a processor of transformers adds to that is for videos.
    render = (
        ProcessorMixin.apply_chat_template.__get__(owner) if isinstance(owner, ProcessorMixin) else owner.apply_chat_template
    )
    written = {"add_generation_prompt": add_generation_prompt, "tokenize": False}
    named = owner.chat_template
    if isinstance(named, dict) and len(named) == 1:
        written["chat_template"] = next(iter(named.values()))
    return str(render(turns, **written))


def _template(processor: Any) -> Any:
    return getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)


def _refuse_without_a_template(processor: Any, name: str) -> None:
    """Refuse a checkpoint that does not say how it is asked, or says it in several ways.

    Raises:
        CouldNotRun: there is no chat template, or there are several and none is the default.
    """
    found = _template(processor)
    if not found:
        raise CouldNotRun(
            f"{name} has no chat template: set processor.chat_template to its base model's and save the processor"
        )
    if isinstance(found, dict) and len(found) > 1 and "default" not in found:
        raise CouldNotRun(
            f"{name} has the chat templates {', '.join(sorted(found))} and none that is the default: "
            f"set processor.chat_template to one of them and save the processor"
        )
