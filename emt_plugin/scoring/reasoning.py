"""What a model thinks aloud before it answers is no answer: blocks between the usual marks are taken off."""

from __future__ import annotations

import html
from typing import NamedTuple

import regex

NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|analyze|reflection|reflect|scratchpad|rationale|summary|cot|inner_monologue|"
    r"plan(?:ning)?|deliberation|seed:think|seed:cot_budget_reflect"
)
OPEN = regex.compile(
    rf"<\|?\s*(?:{NAMES})(?:\s[^<>]*)?\|?>|◁think▷|\[(?:think(?:ing)?|reasoning)\]|<\|(?:begin_of_thought|thinking_start|think_start|start_thinking)\|>"
    rf"|<unused94>|\A\s*analysis(?-i:(?=[A-Z]))|<\|channel\|>\s*(?:analysis|commentary)\s*(?:<\|message\|>)?",
    regex.IGNORECASE,
)
CLOSE = regex.compile(
    rf"<\|?\s*/\s*(?:{NAMES})\s*\|?>|◁/think▷|\[/(?:think(?:ing)?|reasoning)\]|<\|(?:end_of_thought|thinking_end|think_end|end_thinking)\|>"
    rf"|<unused95>|(?<=\A\s*analysis.*)assistantfinal|<\|(?:start\|>assistant<\|)?channel\|>\s*final\s*(?:<\|message\|>)?",
    regex.IGNORECASE | regex.DOTALL,
)
# Around the answer itself, where a model marks that.
ANSWER = regex.compile(
    r"<\|?(?:answer|final_answer|begin_of_solution|begin_of_box)\|?>(.*?)(?:<\|?/?(?:answer|final_answer|end_of_solution|end_of_box)\|?>|$)"
    r"|\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}",
    regex.IGNORECASE | regex.DOTALL,
)


# Marks of how the text looks, and what is struck out.
LOOKS = regex.compile(
    r"~~[^~]+~~|<(del|strike)>.*?</\1>|</?(?:b|i|em|strong|p|br|div|span|code|u|h[1-6]|li|ul|ol|q)\s*/?>|\\(?:text|math)\w*(?=\{)",
    regex.IGNORECASE | regex.DOTALL,
)
FINAL = (
    r"final\s+(?:answer|label|class|prediction)|respuesta\s+final|réponse\s+finale|endgültige\s+antwort|risposta\s+finale|"
    r"resposta\s+final|итоговый\s+ответ|окончательный\s+ответ|最终答案|最終答案|最終的な答え|최종\s*답변?"
)
PLAIN = (
    r"(?:correct\s+|right\s+)?answer|conclusion|respuesta|réponse|antwort|risposta|resposta|antwoord|odpowiedź|odpověď|cevap|yanıt|απάντηση|"
    r"ответ|відповідь|الإجابة|الجواب|תשובה|پاسخ|उत्तर|উত্তর|பதில்|คำตอบ|答案|答え|回答|정답|답변?|trả\s+lời|đáp\s+án|jawaban|"
    r"jibu|vastaus|válasz|svar"
)
# Few of them, for a model may write nothing but newlines.
BEGINS = r"(?:\A|[\n.!?。！？…;】])[*#_>【\[\s-]{0,12}(?:(?:so|thus|therefore|hence|overall)\s*,?\s*)?(?:the\s+|my\s+)?"
ENDS = r"[*_\s]{0,6}?(?:[:：】]|\n|\bis\b\s?:?)[*_\s]{0,6}"
FINAL_HEADING = regex.compile(rf"{BEGINS}(?:{FINAL}){ENDS}", regex.IGNORECASE)
HEADING = regex.compile(rf"{BEGINS}(?:{FINAL}|{PLAIN}){ENDS}", regex.IGNORECASE)
EXPLANATION = regex.compile(
    r"\n[*#_>\s-]{0,12}(?:explanation|reasoning|rationale|justification|reason|explicación|explication|erklärung|begründung|"
    r"spiegazione|explicação|объяснение|解释|説明|설명)[*_\s]{0,6}?(?:[:：]|\n)",
    regex.IGNORECASE,
)
WORD = regex.compile(r"\w")


class Answered(NamedTuple):
    """An answer without its reasoning; ``unfinished`` where the reasoning never came to an end."""

    text: str
    unfinished: bool = False


def without_reasoning(answer: str) -> Answered:
    """What an answer says once its reasoning is over.

    A mark that closes what was never opened ends reasoning that began in the prompt; one that opens what is never closed
    leaves no answer.
    """
    answer = html.unescape(answer)
    closed = [found.end() for found in CLOSE.finditer(answer)]
    rest = answer[closed[-1] :] if closed else answer
    opened = OPEN.search(rest)
    if opened:
        before = rest[: opened.start()]
        return Answered(before if before.strip() and not closed else "", unfinished=not before.strip())
    marked = [found[1] if found[1] is not None else found[2] for found in ANSWER.finditer(rest)]
    return Answered(LOOKS.sub(" ", marked[-1] if marked and marked[-1].strip() else rest))


def stated(text: str) -> str:
    """What stands under the one heading of an answer, "Final answer:" or "The answer is", where something stands before it;
    without an explanation behind it. The whole text where headings do not tell.
    """
    for heading in (FINAL_HEADING, HEADING):
        found = list(heading.finditer(text))
        if found:
            (first, *more) = found
            answered = WORD.search(text[: first.start()]) and WORD.search(text[first.end() :])
            text = text[first.end() :] if answered and not more else text
            break
    explained = EXPLANATION.search(text)
    return text[: explained.start()] if explained and WORD.search(text[: explained.start()]) else text


def is_reasoning_mark(token: str) -> bool:
    """Whether a token's text is one of the marks, which decoding must not drop as it drops other special tokens."""
    return bool(OPEN.fullmatch(token.strip()) or CLOSE.fullmatch(token.strip()) or ANSWER.match(token.strip()))
