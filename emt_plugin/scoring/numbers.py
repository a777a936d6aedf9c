"""Number words: English ones to 99, those of other languages to 20."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from emt_plugin.scoring.tokens import Words, folded, words_of

UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LARGER = ("hundred", "thousand", "million")
# Beside one of these a number word is part of a larger number: the seven of twenty-seven is no 7.
NUMBER_PARTS = frozenset({*UNITS, *TENS, *LARGER})
ENGLISH = "en"
# Number words of a language that are other words in English, or articles.
OTHER_WORDS = frozenset(
    {
        "fire",
        "to",
        "on",
        "hat",
        "set",
        "once",
        "due",
        "ni",
        "ti",
        "en",
        "et",
        "un",
        "um",
        "one",
        "sex",
        "son",
        "trey",
        "ba",
        "nu",
    }
)


# What may stand right before a number word at the end of an answer: nouns, copulas and articles, and nothing that counts.
BEFORE_NUMBERS = frozenset(
    {"número", "numero", "zahl", "ziffer", "chiffre", "nombre", "cifra", "cijfer", "getal", "cyfra", "liczba", "číslo",
     "číslice", "цифра", "число", "номер", "цифру", "rakam", "rakamı", "sayı", "sayısı", "numer", "siffra", "siffran",
     "tal", "tall", "tallet", "αριθμόσ", "رقم", "الرقم", "angka", "nomor", "số", "szám", "es", "ist", "est", "è", "é",
     "is", "jest", "je", "är", "er", "este", "on", "το", "είναι", "هو", "adalah", "là", "это", "un", "une", "ein", "eine",
     "una", "um", "uma", "een", "字", "是", "为", "為"}
)  # fmt: skip


def words_of_number(number: int) -> list[Words]:
    """A number below 100, or a round one below 1000, in English words; none for others."""
    if number >= 100:
        return [(UNITS[number // 100], "hundred")] if number < 1000 and number % 100 == 0 else []
    if number < len(UNITS):
        return [(UNITS[number],)]
    tens = TENS[number // 10 - 2]
    return [(tens, UNITS[number % 10]) if number % 10 else (tens,)]


def number_of(words: Words, language: str | None) -> int | None:
    """The number that some words are in a language; None for none, or without a language."""
    return _numbers(language).get(tuple(map(folded, words))) if language else None


def numbers_in(labels: Sequence[Words]) -> str | None:
    """The language in whose number words most labels are written, the most of all; None where they are not."""
    known = {language: sum(number_of(words, language) is not None for words in labels) for language in (ENGLISH, *_others())}
    most = max(known, key=lambda language: known[language])
    return most if known[most] > 1 and 2 * known[most] > len(labels) else None


def in_any_language(words: Words) -> int | None:
    """The number that some words are in a language other than English; None where languages disagree, or it is another word."""
    plain = tuple(map(folded, words))
    if plain in {(word,) for word in OTHER_WORDS}:
        return None
    found = {number for language in _others() if (number := _numbers(language).get(plain)) is not None}
    return found.pop() if len(found) == 1 else None


def at_the_end(words: Words) -> Words:
    """The number word that closes a plain sentence about a number, "el número es siete"; empty where there is none."""
    if len(words) > 1 and words[-2] in BEFORE_NUMBERS and in_any_language(words[-1:]) is not None:
        return words[-1:]
    return ()


@cache
def _others() -> Mapping[str, Sequence[str]]:
    return tomllib.loads((Path(__file__).parent / "numbers.toml").read_text(encoding="utf-8"))


@cache
def _numbers(language: str) -> Mapping[Words, int]:
    if language == ENGLISH:
        return {words: number for number in range(100) for words in words_of_number(number)}
    spoken = _others()[language]
    return {tuple(map(folded, words_of(word))): number for number, word in enumerate(spoken)}
