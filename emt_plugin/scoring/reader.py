"""The strict reader: an answer names exactly one class of the set, or none.

Reasoning is taken off first. Labels are found by whole words, the longest at each place, and by the strictest form that
names any class: as written, then without accents, then by a synonym, then in the other number or with what is written on.
What counts is what a clause asserts: a class that is denied, doubted, asked about or declined is not named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import regex

from emt_plugin.scoring.forms import Classes, forms_of, stems_of
from emt_plugin.scoring.numbers import LARGER, NUMBER_PARTS, TENS, UNITS, at_the_end, in_any_language
from emt_plugin.scoring.reasoning import stated, without_reasoning
from emt_plugin.scoring.spans import Said, Span, plainly_said
from emt_plugin.scoring.tokens import Token, Words, folded, is_character, tokens_of, words_of

ARTICLES: tuple[Words, ...] = ((), ("a",), ("an",), ("the",), ("a", "n"))
# Words that are labels of some sets and do other work in most sentences: "I can see the one".
LETTERS = frozenset({"a", "i"})
BEHIND_A_LETTER = frozenset({"is", "was", "it", "as", "because", "since", "or", "and", "not", "but"})
VERBS = frozenset({"can", "may", "will"})
SUBJECTS = frozenset({"i", "you", "we", "it", "they", "that", "this", "he", "she", "one", "who", "which"})
JOINS = frozenset({"or", "and"})
PLACES = frozenset({"in", "inside", "into", "on", "onto", "at", "near", "under", "behind", "beside", "above"})
ARTICLE_WORDS = frozenset({"a", "an", "the", "n", "any"})
# Neighbouring words are also tried as one, so that "hot dog" is `hotdog`; short ones would join by accident.
JOINED_WORDS = 3
SHORTEST_JOINED = 3
# Unless the word that they make is long, or the first denies: pick-up is pickup, "no tumor" is `notumor`.
LONG_JOINED = 8
DENYING = frozenset({"no", "non"})
# Labels that deny or affirm by themselves, and take nothing back.
VERDICTS = frozenset(
    {"yes", "no", "true", "false", "oui", "non", "ja", "nein", "si", "sí", "sì", "da", "да", "нет", "tak", "nie"}
)
HAN = regex.compile(r"\p{Script=Han}")
HIRAGANA = regex.compile(r"\p{Script=Hiragana}")
# What may stand right before a label of one Han character, and right behind it: elsewhere it is part of another word.
BEFORE_HAN = frozenset(
    "这這那是只隻条條匹头頭个個张張的有一二三两兩几幾辆輛台架艘朵棵本把件双雙位名座间間为為叫像种種此該该其某和与與及或在看见見到了出不没沒非无無大小黑白红紅黄黃"
    "蓝藍绿綠灰棕幼新旧舊老成"
)
BEHIND_HAN = frozenset(
    "的了吗嗎呢吧啊呀在是和与與及或、们們也都正坐站躺睡跑走吃看趴卧臥叫飞飛游有里裡中旁边邊图圖照片吗而但"
    "没沒不很能会會像被就可只还還"
)
# What may stand before a label in Hiragana, and behind it.
BEFORE_HIRAGANA = frozenset("はがをのにもでとやいなたるくぐうか")
BEHIND_HIRAGANA = (
    "です",
    "だ",
    "で",
    "は",
    "が",
    "を",
    "の",
    "に",
    "と",
    "も",
    "へ",
    "や",
    "か",
    "ね",
    "よ",
    "な",
    "から",
    "まで",
    "じ",
    "ら",
    "み",
    "い",
)


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        named: indices of the classes it asserts, each once, in order of first mention; where it asserts none, of those
            that it mentions.
        refused: it declines to answer, or leaves open or asks what it mentions.
        empty: it has no word at all.
        well_formed: nothing is left beyond an opening, an article and one label.
        denied: it asserts no class and denies one, or denies what it asserts.
        as_place: every class is named only as where something is.
        unfinished: it is reasoning that never came to an answer.
    """

    named: tuple[int, ...]
    refused: bool
    empty: bool
    well_formed: bool
    denied: bool = False
    as_place: bool = False
    unfinished: bool = False

    @property
    def prediction(self) -> int | None:
        """The one class named, or None."""
        return self.named[0] if len(self.named) == 1 and not (self.refused or self.denied or self.unfinished) else None


class Mention(NamedTuple):
    """A label found in an answer: where it starts, its words, and the classes that it may stand for."""

    at: int
    words: Words
    classes: Classes

    @property
    def span(self) -> Span:
        """Its place among the answer's words."""
        return Span(self.at, self.at + len(self.words))


class Reader:
    """Reads answers for one label set.

    Args:
        labels: the label names.
        stems: openings that an answer may have and still be well formed.
        synonyms: further names by label.
    """

    def __init__(
        self,
        labels: Sequence[str],
        stems: Iterable[str] = (),
        synonyms: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._turkish = any("ı" in label or "İ" in label for label in labels)
        self._forms = forms_of(labels, synonyms, self._turkish)
        self._digits = bool(labels) and all("".join(words_of(label)).isdigit() for label in labels)
        self._known: dict[str, Reading] = {}
        self._openings = [(*words_of(stem), *article) for stem in ("", *stems) for article in ARTICLES]

    def read(self, answer: str) -> Reading:
        """What ``answer`` says; never raises."""
        if answer not in self._known:
            self._known[answer] = self._read(answer)
        return self._known[answer]

    def _read(self, answer: str) -> Reading:
        found = without_reasoning(answer)
        tokens = tokens_of(stated(found.text), self._turkish)
        words = tuple(token.text for token in tokens if token.kind == "word")
        parted = frozenset(token.at for token in tokens if token.kind != "word")
        found_here = [mention for mention in self._mentions(words, parted) if not _is_a_word(mention, words, parted)]
        mentions, otherwise = _meant(found_here, words)
        if self._is_a_verdict(tokens, mentions):
            tokens, mentions = tokens[:1], mentions[:1]
        said = _said(tokens, [mention.span for mention in mentions])
        asserted, denied = (_classes(mentions, said.statuses, status) for status in ("asserted", "denied"))
        every = tuple(dict.fromkeys(index for mention in mentions for index in sorted(mention.classes)))
        named = asserted or every
        return Reading(
            named=named,
            refused=(otherwise and said.declines) if asserted else not denied and (said.declines or bool(mentions)),
            empty=not words_of(answer),
            well_formed=len(named) == 1 and self._is_well_formed(words_of(found.text, self._turkish)),
            denied=bool(set(asserted) & set(denied)) if asserted else bool(denied),
            as_place=bool(mentions) and all(_is_place(mention, words) for mention in mentions),
            unfinished=found.unfinished,
        )

    def _mentions(self, words: Words, parted: Set[int]) -> list[Mention]:
        """Each label mentioned, longest first at every word; in digits' sets a whole answer may be a foreign number word."""
        found = list(self._found(words, parted))
        if not found and self._digits:
            said = words if in_any_language(words) is not None else at_the_end(words)
            classes = self._forms.classes((str(in_any_language(said)),)) if said else None
            return [Mention(len(words) - len(said), said, classes)] if classes else []
        return found

    def _found(self, words: Words, parted: Set[int]) -> Iterator[Mention]:
        at = 0
        while at < len(words):
            for length in range(min(max(self._forms.longest + 1, JOINED_WORDS), len(words) - at), 0, -1):
                form = words[at : at + length]
                classes = self._classes(form) or self._classes(_without_articles(form))
                if classes and not self._is_part_of_a_number(words, at, form) and _stands_alone(words, at, form, parted):
                    yield Mention(at, form, classes)
                    at += length
                    break
            else:
                at += 1

    def _classes(self, words: Words) -> Classes | None:
        """The classes that exactly these words name, as they stand, written as one, or without what is written on."""
        found = self._forms.classes(words)
        if found:
            return found
        if _may_be_joined(words):
            found = self._forms.classes(("".join(words),))
        if found:
            return found
        if not words:
            return None
        *first, last = words
        if last.isdigit() and last[0] == "0" and last != "0":
            return self._forms.classes((*first, last.lstrip("0") or "0"))
        return next((found for stem in stems_of(last) if stem and (found := self._forms.classes((*first, stem)))), None)

    def _is_part_of_a_number(self, words: Words, at: int, form: Words) -> bool:
        plain = {folded(word) for word in form}
        if not plain <= NUMBER_PARTS:
            return False
        before, after = set(words[max(at - 1, 0) : at]), set(words[at + len(form) : at + len(form) + 1])
        if form in self._forms.own:
            return bool(before & {*TENS, *LARGER}) or (form[-1] in TENS and bool(after & {*UNITS}))
        return bool(((before | after) - set(form)) & NUMBER_PARTS)

    def _is_a_verdict(self, tokens: Sequence[Token], mentions: Sequence[Mention]) -> bool:
        """Whether an answer opens with a label that is a yes or a no, and names no other class: "No, it is not"."""
        if not tokens or tokens[0].text not in VERDICTS or (tokens[0].text,) not in self._forms.own:
            return False
        return (len(tokens) == 1 or tokens[1].kind != "word") and len({mention.classes for mention in mentions}) == 1

    def _is_well_formed(self, words: Words) -> bool:
        return any(
            words[: len(opening)] == opening and self._classes(words[len(opening) :]) is not None for opening in self._openings
        ) and bool(words)


def _may_be_joined(words: Words) -> bool:
    if not 1 < len(words) <= JOINED_WORDS:
        return False
    shortest = min(map(len, words[1:] if words[0] in DENYING else words))
    return shortest >= SHORTEST_JOINED or (shortest > 1 and sum(map(len, words)) >= LONG_JOINED)


def _without_articles(words: Words) -> Words:
    """Words without the articles, or the and, between them; nothing where there are none."""
    kept = (*words[:1], *(word for word in words[1:-1] if word not in ARTICLE_WORDS | {"and"}), *words[-1:])
    return kept if 1 < len(kept) < len(words) else ()


def unreadable(labels: Sequence[str]) -> tuple[str, ...]:
    """A label without a word, or two labels with the same words: no answer could name them. Empty where all is well."""
    turkish = any("ı" in label or "İ" in label for label in labels)
    seen: dict[Words, str] = {}
    for label in labels:
        form = words_of(label, turkish)
        if not form:
            return (label,)
        if form in seen:
            return (seen[form], label)
        seen[form] = label
    return ()


def _said(tokens: Sequence[Token], spans: Sequence[Span]) -> Said:
    plain = plainly_said(tokens, spans)
    if plain is not None:
        return plain
    # Its cues take a moment to compile, and most answers of a model that does what it is asked need none.
    from emt_plugin.scoring.clauses import said_of

    return said_of(tokens, spans)


def _classes(mentions: Sequence[Mention], statuses: Sequence[str], status: str) -> tuple[int, ...]:
    """The classes of the mentions of which one thing is said, each once."""
    chosen = (mention for mention, found in zip(mentions, statuses, strict=True) if found == status)
    return tuple(dict.fromkeys(index for mention in chosen for index in sorted(mention.classes)))


def _is_a_word(mention: Mention, words: Words, parted: Set[int]) -> bool:
    """Whether a letter is the article or the pronoun of the word behind it: a dog, I see."""
    end = mention.at + len(mention.words)
    if len(mention.words) > 1 or mention.words[0] not in LETTERS or end in parted or end >= len(words):
        return False
    return words[end] not in BEHIND_A_LETTER


def _meant(mentions: list[Mention], words: Words) -> tuple[list[Mention], bool]:
    """The mentions without words that do other work in the sentence; where there is no other, those, and that they do."""

    def works_otherwise(mention: Mention) -> bool:
        (first, *more) = mention.words
        before = words[mention.at - 1] if mention.at else ""
        after = words[mention.at + 1] if mention.at + 1 < len(words) else ""
        if more or {before, after} & JOINS:
            return False
        if first in LETTERS:
            return bool(after)
        return (first in VERBS and before in SUBJECTS) or (first == "one" and before != "a")

    kept = [mention for mention in mentions if not works_otherwise(mention)]
    return (kept, False) if kept else (mentions, bool(mentions))


def _stands_alone(words: Words, at: int, form: Words, parted: Set[int]) -> bool:
    """Whether a label in a script without spaces is no part of a longer word, as far as its neighbours tell.

    Args:
        words: the answer's.
        at: where the label begins.
        form: its words.
        parted: words before which a comma or a stop stands.
    """
    if not all(is_character(word) for word in form):
        return True
    before = words[at - 1] if at and at not in parted else ""
    end = at + len(form)
    behind = "" if end in parted else "".join(words[end : end + (1 if end + 1 in parted else 2)])
    if len(form) == 1 and HAN.match(form[0]):
        left = not HAN.match(before) or before in BEFORE_HAN
        return left and (not HAN.match(behind) or behind[0] in BEHIND_HAN)
    if all(HIRAGANA.match(word) for word in form):
        left = not HIRAGANA.match(before) or before in BEFORE_HIRAGANA
        return left and (not HIRAGANA.match(behind) or behind.startswith(BEHIND_HIRAGANA))
    return True


def _before(mention: Mention, words: Words) -> Words:
    """The words before a mention, without the article right before it."""
    before = words[: mention.at]
    while before and before[-1] in ARTICLE_WORDS:
        before = before[:-1]
    return before


def _is_place(mention: Mention, words: Words) -> bool:
    """Whether a mention follows "in a", "on the" and the like, and something stands before that."""
    before = _before(mention, words)
    return 1 < len(before) < mention.at and before[-1] in PLACES
