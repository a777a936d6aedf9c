"""The strict reader: an answer names exactly one class of the set, or none.

Matching is by whole words. Case, punctuation, underscores, hyphens, accents and articles do not matter; a plural
counts where no other label owns it; ``three`` reads as ``3`` where labels are digits. At each word the longest label
wins, so ``sweet pepper`` does not also name ``pepper``. An answer that denies a class (``not a dog``) names none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Words = tuple[str, ...]

UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# Beside one of these a number word is part of a larger number: the seven of twenty-seven is no 7.
NUMBER_PARTS = frozenset({*UNITS, *TENS, "hundred", "thousand", "million"})
ARTICLES: tuple[Words, ...] = ((), ("a",), ("an",), ("the",), ("a", "n"))
# Words that are labels of some sets and do other work in most sentences: "I can see the one".
LETTERS = frozenset({"a", "i"})
VERBS = frozenset({"can", "may", "will"})
SUBJECTS = frozenset({"i", "you", "we", "it", "they", "that", "this", "he", "she", "one", "who", "which"})
JOINS = frozenset({"or", "and"})
DENIALS = frozenset({"not", "isnt", "arent", "wasnt", "never", "neither", "nor"})
PLACES = frozenset({"in", "inside", "into", "on", "onto", "at", "near", "under", "behind", "beside", "above"})
ARTICLE_WORDS = frozenset({"a", "an", "the", "n", "any"})
PLURALS = {"mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "person": "people", "child": "children",
           "ox": "oxen", "wolf": "wolves", "leaf": "leaves", "knife": "knives"}  # fmt: skip
SINGULARS = {plural: singular for singular, plural in PLURALS.items()}
NO_PLURAL = frozenset({"news", "lens", "series", "species"})
# A number with separators is one word. Scripts written without spaces are read by runs of one script.
HAN, HIRAGANA, KATAKANA = "\u3005\u3400-\u9fff\uf900-\ufaff", "\u3040-\u309f", "\u30a0-\u30ff"
WORD = re.compile(rf"\d+(?:[.,:]\d+)+|[{HAN}]+|[{HIRAGANA}]+|[{KATAKANA}]+|[^\W_{HAN}{HIRAGANA}{KATAKANA}]+")
# Neighbouring words are also tried as one, so that "hot dog" is `hotdog`; short ones would join by accident.
JOINED_WORDS = 3
SHORTEST_JOINED = 3
APOSTROPHE = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")
REFUSAL = re.compile(
    r"\b(?:i|we) (?:can ?not|cant|could not|couldnt|am unable|am not able|are unable|are not able|dont know|do not know)\b"
    r"|\bim (?:unable|not able)\b"
    r"|\bunable to (?:determine|identify|tell|see|recogni[sz]e|answer|view)\b"
    r"|\b(?:impossible|not possible) to (?:determine|identify|tell|say|see)\b"
    r"|\bas an ai\b"
)


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        named: indices of the classes it names, each once, in order of first mention.
        refused: it declines to answer.
        empty: it has no word at all.
        well_formed: nothing is left beyond an opening, an article and one label.
        denied: it says of a class that it is not it.
        as_place: every class is named only as where something is.
    """

    named: tuple[int, ...]
    refused: bool
    empty: bool
    well_formed: bool
    denied: bool = False
    as_place: bool = False

    @property
    def prediction(self) -> int | None:
        """The one class named, or None."""
        return self.named[0] if len(self.named) == 1 and not (self.refused or self.denied) else None


class Mention(NamedTuple):
    """A label found in an answer: where it starts, its words, and the classes that it may stand for."""

    at: int
    words: Words
    classes: frozenset[int]


class Reader:
    """Reads answers for one label set.

    Args:
        labels: the label names.
        stems: openings that an answer may have and still be well formed.
    """

    def __init__(self, labels: Sequence[str], stems: Iterable[str] = ()) -> None:
        self._forms = _forms(labels)
        self._own = {words_of(label) for label in labels}
        self._longest = max([JOINED_WORDS, *(len(form) for form in self._forms)])
        self._openings = [(*words_of(stem), *article) for stem in ("", *stems) for article in ARTICLES]

    def read(self, answer: str) -> Reading:
        """What ``answer`` says; never raises."""
        words = words_of(answer)
        mentions = _meant(list(self._mentions(words)), words)
        named = tuple(dict.fromkeys(index for mention in mentions for index in sorted(mention.classes)))
        refusal = REFUSAL.search(" ".join(words))
        first = len(" ".join((*words[: mentions[0].at], ""))) if mentions else None
        return Reading(
            named=named,
            refused=refusal is not None and (first is None or refusal.start() <= first),
            empty=not words,
            well_formed=len(named) == 1 and self._is_well_formed(words),
            denied=any(_is_denied(mention, words) for mention in mentions),
            as_place=bool(mentions) and all(_is_place(mention, words) for mention in mentions),
        )

    def _mentions(self, words: Words) -> Iterator[Mention]:
        """Each label mentioned, longest first at every word."""
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                form = words[at : at + length]
                classes = self._classes(form)
                if classes and not self._is_part_of_a_number(words, at, form):
                    yield Mention(at, form, classes)
                    at += length
                    break
            else:
                at += 1

    def _classes(self, words: Words) -> frozenset[int] | None:
        """The classes that exactly these words name, as they stand or written as one."""
        joinable = 1 < len(words) <= JOINED_WORDS and all(len(word) >= SHORTEST_JOINED for word in words)
        return self._forms.get(words) or (self._forms.get(("".join(words),)) if joinable else None)

    def _is_part_of_a_number(self, words: Words, at: int, form: Words) -> bool:
        if form in self._own or not set(form) <= NUMBER_PARTS:
            return False
        beside = {*words[max(at - 1, 0) : at], *words[at + len(form) : at + len(form) + 1]} - set(form)
        return bool(beside & NUMBER_PARTS)

    def _is_well_formed(self, words: Words) -> bool:
        return any(
            words[: len(opening)] == opening and self._classes(words[len(opening) :]) is not None for opening in self._openings
        )


def words_of(text: str) -> Words:
    """The words of a text: case-folded, without accents, punctuation, underscores and hyphens."""
    whole = APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold())
    decomposed = unicodedata.normalize("NFD", whole)
    plain = "".join(sign for sign in decomposed if not "\u0300" <= sign <= "\u036f")
    return tuple(WORD.findall(unicodedata.normalize("NFC", plain)))


def unreadable(labels: Sequence[str]) -> tuple[str, ...]:
    """A label without a word, or two labels with the same words: no answer could name them. Empty where all is well."""
    seen: dict[Words, str] = {}
    for label in labels:
        form = words_of(label)
        if not form:
            return (label,)
        if form in seen:
            return (seen[form], label)
        seen[form] = label
    return ()


def _meant(mentions: list[Mention], words: Words) -> list[Mention]:
    """The mentions without words that do other work in the sentence, unless nothing else names a class."""

    def works_otherwise(mention: Mention) -> bool:
        (first, *more) = mention.words
        before = words[mention.at - 1] if mention.at else ""
        after = words[mention.at + 1] if mention.at + 1 < len(words) else ""
        if more or {before, after} & JOINS:
            return False
        if first in LETTERS:
            return bool(after)
        return (first in VERBS and before in SUBJECTS) or (first == "one" and before != "a")

    return [mention for mention in mentions if not works_otherwise(mention)] or mentions


def _before(mention: Mention, words: Words) -> Words:
    """The words before a mention, without the article right before it."""
    before = words[: mention.at]
    while before and before[-1] in ARTICLE_WORDS:
        before = before[:-1]
    return before


def _is_denied(mention: Mention, words: Words) -> bool:
    last = _before(mention, words)[-1:]
    # "No. 8" is a number.
    return last != () and (last[0] in DENIALS or (last[0] == "no" and mention.words[0].isalpha()))


def _is_place(mention: Mention, words: Words) -> bool:
    """Whether a mention follows "in a", "on the" and the like, and something stands before that."""
    before = _before(mention, words)
    return 1 < len(before) < mention.at and before[-1] in PLACES


def _forms(labels: Sequence[str]) -> Mapping[Words, frozenset[int]]:
    """Every accepted form of every label. A label's own form is never taken by another's variant."""
    forms: dict[Words, set[int]] = {}
    for index, label in enumerate(labels):
        forms.setdefault(words_of(label), set()).add(index)
    own = set(forms)
    for index, label in enumerate(labels):
        # "T-shirt/top" may be called by either name.
        names = {words_of(label), *(words_of(name) for name in label.split("/"))}
        for variant in {*names, *(variant for name in names for variant in _variants(name))}:
            if variant not in own:
                forms.setdefault(variant, set()).add(index)
    return {form: frozenset(classes) for form, classes in forms.items() if form and (form in own or len(classes) == 1)}


def _variants(words: Words) -> Iterator[Words]:
    if not words:
        return
    *first, last = words
    joined = "".join(words)
    if len(words) > 1:
        yield (joined,)
    if last.isascii() and last.isdigit() and len(last) <= 2:
        yield (*first, *_number_words(int(last)))
    elif last.isalpha():
        for other in _other_number(last):
            yield (*first, other)
            if first:
                yield (joined.removesuffix(last) + other,)


def _number_words(number: int) -> Words:
    """A number below 100 in English words."""
    if number < len(UNITS):
        return (UNITS[number],)
    tens = TENS[number // 10 - 2]
    return (tens, UNITS[number % 10]) if number % 10 else (tens,)


def _other_number(word: str) -> Iterator[str]:
    """Plurals of a singular and singulars of a plural, by English rules."""
    if len(word) < 2 or word in NO_PLURAL:
        return
    for irregular in (PLURALS, SINGULARS):
        if word in irregular:
            yield irregular[word]
    for ending, other in (("man", "men"), ("men", "man")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + other
    if word[-1] == "y" and word[-2] not in "aeiou":
        yield word[:-1] + "ies"
    elif re.search(r"(s|x|z|ch|sh)$", word):
        yield word + "es"
    else:
        yield word + "s"
    if word.endswith("o"):
        yield word + "es"
    if len(word) > 4 and word.endswith("ies"):
        yield word[:-3] + "y"
    elif len(word) > 4 and re.search(r"(s|x|z|ch|sh)es$", word):
        yield word[:-2]
    if len(word) > 3 and word[-1] == "s" and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
