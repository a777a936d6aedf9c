"""The strict reader: an answer names exactly one class of the set, or none.

Matching is by whole words. Case, punctuation, underscores, hyphens, accents and articles do not matter; a plural
counts where no other label owns it; ``three`` reads as ``3`` where labels are digits. At each word the longest label
wins, so ``sweet pepper`` does not also name ``pepper``. Negation is not interpreted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Words = tuple[str, ...]

NUMBER_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14",
    "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20",
}  # fmt: skip
ARTICLES: tuple[Words, ...] = ((), ("a",), ("an",), ("the",), ("a", "n"))
IRREGULAR_PLURALS = {"mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "person": "people"}
IRREGULAR_PLURALS |= {"child": "children", "ox": "oxen", "wolf": "wolves", "leaf": "leaves", "knife": "knives"}
# A decimal number is one word; scripts written without spaces are read sign by sign.
WORD = re.compile(r"\d+\.\d+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
REFUSAL = re.compile(
    r"\b(?:i|we) (?:can ?not|can t|could not|couldn t|am unable|m unable|am not able|m not able|are unable|are not able)\b"
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
    """

    named: tuple[int, ...]
    refused: bool
    empty: bool
    well_formed: bool

    @property
    def prediction(self) -> int | None:
        """The one class named, or None."""
        return self.named[0] if len(self.named) == 1 and not self.refused else None


class Reader:
    """Reads answers for one label set.

    Args:
        labels: the label names.
        stems: openings that an answer may have and still be well formed.
    """

    def __init__(self, labels: Sequence[str], stems: Iterable[str] = ()) -> None:
        self._forms = _forms(labels)
        self._longest = max((len(form) for form in self._forms), default=0)
        self._openings = [
            (*words_of(stem), *article) for stem in ("", *stems) for article in ARTICLES
        ]  # fmt: skip
        # "One" is a pronoun as often as a number: it counts only where nothing else names a class.
        digit_one = [index for index, label in enumerate(labels) if words_of(label) == ("1",)]
        self._pronoun = frozenset(digit_one) if ("one",) not in {words_of(label) for label in labels} else frozenset()

    def read(self, answer: str) -> Reading:
        """What ``answer`` says; never raises."""
        words = words_of(answer)
        mentions = list(self._mentions(words))
        sure = [(form, classes) for form, classes in mentions if not (form == ("one",) and classes == self._pronoun)]
        named = tuple(dict.fromkeys(index for _, classes in (sure or mentions) for index in sorted(classes)))
        return Reading(
            named=named,
            refused=bool(REFUSAL.search(" ".join(words))),
            empty=not words,
            well_formed=len(named) == 1 and self._is_well_formed(words),
        )

    def _mentions(self, words: Words) -> Iterator[tuple[Words, frozenset[int]]]:
        """Each label mentioned, longest first at every word."""
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                form = words[at : at + length]
                if form in self._forms:
                    yield form, self._forms[form]
                    at += length
                    break
            else:
                at += 1

    def _is_well_formed(self, words: Words) -> bool:
        return any(words[: len(opening)] == opening and words[len(opening) :] in self._forms for opening in self._openings)


def words_of(text: str) -> Words:
    """The words of a text: case-folded, without accents, punctuation, underscores and hyphens."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    return tuple(WORD.findall(plain.casefold()))


def _forms(labels: Sequence[str]) -> Mapping[Words, frozenset[int]]:
    """Every accepted form of every label. A label's own form is never taken by another's variant."""
    forms: dict[Words, set[int]] = {}
    for index, label in enumerate(labels):
        forms.setdefault(words_of(label), set()).add(index)
    own = set(forms)
    for index, label in enumerate(labels):
        for variant in _variants(words_of(label)):
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
    if last.isdigit():
        for word, digits in NUMBER_WORDS.items():
            if digits == last:
                yield (*first, word)
    elif last.isalpha():
        for other in _other_number(last):
            yield (*first, other)
            if first:
                yield (joined.removesuffix(last) + other,)


def _other_number(word: str) -> Iterator[str]:
    """Plurals of a singular and singulars of a plural, by English rules."""
    if len(word) < 2:
        return
    if word in IRREGULAR_PLURALS:
        yield IRREGULAR_PLURALS[word]
    if word.endswith("man"):
        yield word[:-3] + "men"
    if word[-1] == "y" and word[-2] not in "aeiou":
        yield word[:-1] + "ies"
    elif re.search(r"(s|x|z|ch|sh)$", word):
        yield word + "es"
    else:
        yield word + "s"
    if word.endswith("o"):
        yield word + "es"
    if len(word) > 3 and word[-1] == "s" and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
