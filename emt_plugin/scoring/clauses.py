"""What the clauses of an answer say of the labels in them: assert, deny, doubt, decline, or only ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from emt_plugin.scoring import cues
from emt_plugin.scoring.spans import Said, Span, Status
from emt_plugin.scoring.tokens import Token, is_character

# Words between a label and what denies it at the end of a clause.
NEAR = 3
# Words that a member of a bare list may have before its label.
LIST_WORDS = 4
# "Ni" is neither, where it stands twice or beside one of these; alone it is the copula of Swahili.
NEGATIONS_WITH_NI = frozenset({"no", "n", "ne", "pas", "non", "nunca", "sin", "sans", "tampoco", "jamais"})


@dataclass
class Clause:
    """A part of a sentence.

    Attributes:
        start: its first word.
        end: the word behind its last.
        sentence: number of its sentence.
        asked: it is part of a question.
        after_comma: a comma stands before it, nothing stronger.
        text: its words, see ``cues``.
        at: where each of its words begins in ``text``.
        spans: the mentions in it.
        status: what it says of each.
    """

    start: int
    end: int
    sentence: int
    after_comma: bool
    asked: bool = False
    text: str = ""
    at: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    status: dict[Span, Status] = field(default_factory=dict)


def said_of(tokens: Sequence[Token], spans: Sequence[Span]) -> Said:
    """What an answer says of the labels that it mentions.

    Args:
        tokens: the answer's.
        spans: where labels are mentioned, in order.
    """
    words = [token.text for token in tokens if token.kind == "word"]
    if words.count("ni") == 1 and not NEGATIONS_WITH_NI & set(words):
        words[words.index("ni")] = "#"
    clauses = _clauses(tokens, words, spans)
    for clause in clauses:
        _judge(clause, clauses)
    _carry_denials(clauses)
    _take_back(clauses)
    _yield_to_what_it_is(clauses)
    found = {span: status for clause in clauses for span, status in clause.status.items()}
    declines = any(cues.UNSURE.search(clause.text) or cues.DECLINES.search(clause.text) for clause in clauses)
    return Said([found.get(span, "asserted") for span in spans], declines)


def _clauses(tokens: Sequence[Token], words: Sequence[str], spans: Sequence[Span]) -> list[Clause]:
    """The clauses: between stops and pauses, and before words of contrast; a label's own words are never parted."""
    # No cut before a label's first word either where that word would make it: men, in Swedish, is but.
    inside = {at for span in spans for at in range(span.start, span.end)}
    clauses: list[Clause] = []
    start, sentence, comma = 0, 0, False
    asked: set[int] = set()

    def close(end: int) -> None:
        nonlocal start
        if end > start:
            clauses.append(Clause(start, end, sentence, comma))
            start = end

    for index, token in enumerate(tokens):
        within = any(span.start < token.at < span.end for span in spans)
        if token.kind == "word" or within or _is_of_a_number(tokens, index):
            continue
        close(token.at)
        if token.kind == "pause":
            comma = True
            continue
        comma = False
        if token.text in "?؟":
            asked.add(sentence)
        sentence += 1
    close(len(words))
    parted = [part for clause in clauses for part in _at_contrasts(clause, words, inside)]
    for clause in parted:
        clause.text, clause.at = _joined(words[clause.start : clause.end])
        clause.asked = clause.sentence in asked or cues.ASKS.search(clause.text) is not None
        clause.spans = [span for span in spans if clause.start <= span.start < clause.end]
    return parted


def _is_of_a_number(tokens: Sequence[Token], index: int) -> bool:
    """Whether a full stop belongs to "No. 8"."""
    if tokens[index].text != "." or index == 0 or index + 1 == len(tokens):
        return False
    return tokens[index - 1].text in {"no", "nr"} and tokens[index + 1].text[:1].isdigit()


def _at_contrasts(clause: Clause, words: Sequence[str], inside: set[int]) -> list[Clause]:
    text, at = _joined(words[clause.start : clause.end])
    cuts = [clause.start + place for place, offset in enumerate(at) if place and cues.CONTRAST.match(text, offset)]
    edges = [clause.start, *(cut for cut in cuts if cut not in inside), clause.end]
    return [
        Clause(first, last, clause.sentence, clause.after_comma and number == 0)
        for number, (first, last) in enumerate(pairwise(edges))
    ]


def _joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """Words with a blank between them, characters of scripts without spaces side by side; and where each begins."""
    text, at = "", []
    for index, word in enumerate(words):
        if index and not (is_character(words[index - 1]) and is_character(word)):
            text += " "
        at.append(len(text))
        text += word
    return text, at


def _judge(clause: Clause, clauses: Sequence[Clause]) -> None:
    """What a clause by itself says of its mentions."""
    text = cues.NO_DENIAL.sub(lambda found: "#" * len(found[0]), clause.text)
    before = [other for other in clauses if other.sentence == clause.sentence and other.start < clause.start]
    # What comes after "but" is no longer what is not known.
    turns = [number for number, other in enumerate((*before, clause)) if cues.CONTRAST.match(other.text)]
    unsure_before = any(cues.UNSURE.search(other.text) for other in before[turns[-1] if turns else 0 :])
    as_an_ai = any(cues.AS_AN_AI.search(other.text) for other in (*before, clause))
    for span in clause.spans:
        start, end = _offsets(clause, span)
        ahead, behind = text[:start], cues.IDLE_MAYBE.sub("", text[end:])
        another = any(other.start > span.start for other in clause.spans)
        clause.status[span] = _status(clause, ahead, behind, another, unsure_before, as_an_ai)
    # A denial behind the last of labels that stand side by side is of all: 고양이도 개도 아닙니다.
    for span, following in reversed(list(pairwise(clause.spans))):
        if span.end == following.start and clause.status[following] == "denied" and clause.status[span] == "asserted":
            clause.status[span] = "denied"


def _offsets(clause: Clause, span: Span) -> tuple[int, int]:
    first, last = span.start - clause.start, min(span.end, clause.end) - clause.start - 1
    end = clause.at[last + 1] if last + 1 < len(clause.at) else len(clause.text)
    return clause.at[first], end


def _status(clause: Clause, ahead: str, behind: str, another: bool, unsure_before: bool, as_an_ai: bool) -> Status:
    if as_an_ai or cues.UNSURE.search(ahead) or cues.AT_THE_END.search(behind):
        return "declined"
    if cues.WHETHER.search(ahead) or (unsure_before and cues.WEAK_WHETHER.search(ahead)):
        return "doubted"
    if cues.MAYBE.search(ahead) or cues.MAYBE.search(behind) or cues.KOREAN_MAY.match(behind):
        return "doubted"
    if cues.ASKS_BEFORE.match(behind):
        return "asked"
    if cues.DENIES.search(ahead) or _is_denied_behind(behind, another):
        return "denied"
    return "asked" if clause.asked else "asserted"


def _is_denied_behind(behind: str, another: bool) -> bool:
    """Whether what follows a label denies it, at once or behind auxiliary words.

    Where another label follows, a word that could deny that one does: a cat not a dog.
    """
    rest = behind.strip()
    for _ in range(NEAR + 1):
        found = cues.DENIES_BEFORE.match(rest)
        if found:
            return not (another and cues.DENIES.match(rest))
        auxiliary = cues.AUXILIARY.match(rest)
        if not auxiliary:
            return False
        rest = rest[auxiliary.end() :].strip()
    return False


def _carry_denials(clauses: Sequence[Clause]) -> None:
    """Deny the rest of a list whose first member is denied, where "or" closes it: no cat, dog or bird."""
    for index, clause in enumerate(clauses):
        if "denied" not in clause.status.values():
            continue
        members = []
        for other in clauses[index + 1 :]:
            if not (other.after_comma and other.sentence == clause.sentence and _is_list_member(other)):
                break
            members.append(other)
        closed = any(cues.OR.search(member.text) for member in members)
        for member in members if closed else ():
            member.status = dict.fromkeys(member.status, "denied")


def _is_list_member(clause: Clause) -> bool:
    if not clause.spans or clause.end - clause.start > 2 * LIST_WORDS:
        return False
    ahead = clause.text[: clause.at[clause.spans[0].start - clause.start]]
    return clause.spans[0].start - clause.start < LIST_WORDS and not cues.AUXILIARY.search(ahead)


def _yield_to_what_it_is(clauses: Sequence[Clause]) -> None:
    """What something only looks like is left open where the same sentence says against it what it is."""
    for index, clause in enumerate(clauses):
        if not clause.spans or not cues.LOOKS.search(clause.text[: clause.at[clause.spans[0].start - clause.start]]):
            continue
        rest = [other for other in clauses[index + 1 :] if other.sentence == clause.sentence and other.spans]
        granted = cues.GRANTS.match(clause.text) is not None
        if any("asserted" in other.status.values() and (granted or cues.CONTRAST.match(other.text)) for other in rest):
            clause.status = dict.fromkeys(clause.status, "doubted")


def _take_back(clauses: Sequence[Clause]) -> None:
    """A bare no denies what stood before it, a bare yes asserts what was asked, a bare maybe leaves what is beside it open."""
    named: Clause | None = None
    opened = False
    for clause in clauses:
        if clause.spans:
            named = clause
            if opened and clause.after_comma:
                clause.status = dict.fromkeys(clause.status, "doubted")
        elif named is not None and clause.asked and clause.after_comma and cues.TAG.fullmatch(clause.text):
            named.status = {span: "asserted" if status == "asked" else status for span, status in named.status.items()}
        elif named is not None and cues.BARE_DENIAL.fullmatch(clause.text):
            named.status = dict.fromkeys(named.status, "denied")
        elif named is not None and named.asked and cues.BARE_YES.fullmatch(clause.text):
            named.status = {span: "asserted" if status == "asked" else status for span, status in named.status.items()}
        elif named is not None and cues.MAYBE.fullmatch(clause.text):
            named.status = dict.fromkeys(named.status, "doubted")
        opened = not clause.spans and cues.MAYBE.fullmatch(clause.text) is not None
