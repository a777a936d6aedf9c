"""What a model thinks aloud before it answers is no answer: blocks between the usual marks are taken off."""

from __future__ import annotations

from typing import NamedTuple

import regex

NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|analyze|reflection|reflect|scratchpad|rationale|cot|inner_monologue|"
    r"plan(?:ning)?|deliberation|seed:think|seed:cot_budget_reflect"
)
OPEN = regex.compile(
    rf"<\|?\s*(?:{NAMES})(?:\s[^<>]*)?\|?>|◁think▷|\[(?:think(?:ing)?|reasoning)\]|<\|(?:begin_of_thought|thinking_start|think_start)\|>"
    rf"|<\|channel\|>\s*(?:analysis|commentary)\s*(?:<\|message\|>)?",
    regex.IGNORECASE,
)
CLOSE = regex.compile(
    rf"<\|?\s*/\s*(?:{NAMES})\s*\|?>|◁/think▷|\[/(?:think(?:ing)?|reasoning)\]|<\|(?:end_of_thought|thinking_end|think_end)\|>"
    rf"|<\|(?:start\|>assistant<\|)?channel\|>\s*final\s*(?:<\|message\|>)?",
    regex.IGNORECASE,
)
# Around the answer itself, where a model marks that.
ANSWER = regex.compile(
    r"<\|?(?:answer|final_answer|begin_of_solution|begin_of_box)\|?>(.*?)(?:<\|?/?(?:answer|final_answer|end_of_solution|end_of_box)\|?>|$)"
    r"|\\boxed\{([^{}]*)\}",
    regex.IGNORECASE | regex.DOTALL,
)


class Answered(NamedTuple):
    """An answer without its reasoning; ``unfinished`` where the reasoning never came to an end."""

    text: str
    unfinished: bool = False


def without_reasoning(answer: str) -> Answered:
    """What an answer says once its reasoning is over.

    A mark that closes what was never opened ends reasoning that began in the prompt; one that opens what is never closed
    leaves no answer.
    """
    closed = [found.end() for found in CLOSE.finditer(answer)]
    rest = answer[closed[-1] :] if closed else answer
    opened = OPEN.search(rest)
    if opened:
        before = rest[: opened.start()]
        return Answered(before if before.strip() and not closed else "", unfinished=not before.strip())
    marked = [found[1] if found[1] is not None else found[2] for found in ANSWER.finditer(rest)]
    return Answered(marked[-1] if marked and marked[-1].strip() else rest)


def is_reasoning_mark(token: str) -> bool:
    """Whether a token's text is one of the marks, which decoding must not drop as it drops other special tokens."""
    return bool(OPEN.fullmatch(token.strip()) or CLOSE.fullmatch(token.strip()) or ANSWER.match(token.strip()))
