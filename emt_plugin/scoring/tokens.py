"""The words of a text, in any script. Pure.

A word includes its combining marks. In scripts that are written without spaces a word here is one grapheme cluster, so that
the longest label can be found among them; a run of Katakana is one word, as loan-words are.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import regex

Words = tuple[str, ...]

UNSPACED = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}"
TOKEN = regex.compile(
    rf"(?V1)(?P<word>\d+(?:[.,:]\d+)+|(?=[{UNSPACED}])\X|[\p{{Script=Katakana}}ー]+"
    rf"|[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}\p{{Script=Katakana}}]]+)|(?P<stop>[.!?;:…。؟।؛|\n\r–—]|--|(?<=\s)-(?=\s))|(?P<pause>[,、،·])"
)
CHARACTER = regex.compile(rf"[{UNSPACED}]")
# French, Italian and Catalan articles and particles that lose their vowel.
ELIDED = regex.compile(
    r"\b(l|d|un|dell|all|nell|sull|dall|quell|quest|qu|jusqu|lorsqu|puisqu|c|s|j|n|m|t|gl|bell)['\u2019\u02bc](?=\p{L})",
    regex.IGNORECASE,
)
# Signs that are typed for an apostrophe.
QUOTES = str.maketrans(dict.fromkeys("`´‘′＇", "'"))
# A negation that a tokenizer parted: "is n't", "isn' t".
PARTED = regex.compile(
    r"(?<=\b(?:is|are|was|were|do|does|did|could|would|should|has|have|had|ca|wo))\s+(?=n't\b)"
    r"|(?<=\b(?:is|are|was|were|do|does|did|could|would|should|has|have|had|ca|wo)n)(?:\s+'\s*|\s*'\s+)(?=t\b)"
)
# What makes another word of the one before it: a cat-like dog is no cat.
SUFFIX = regex.compile(r"(?<=\w)-(?=(?:like|free|less|shaped)\b)")
# What is written and not seen, but for the sign that parts an ending from a word in Arabic script; presentation of signs.
UNSEEN = regex.compile(r"(?V1)(?<!\p{Script=Arabic})\u200c|[\p{Cf}--[\u200c]]|[\ufe00-\ufe0f\u20e3]")
APOSTROPHE = regex.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")
# Accents of scripts in which they do not make another letter for a reader.
ACCENTS = regex.compile(r"(?<=[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}][\u0300-\u036f]*)[\u0300-\u036f]")
ARABIC_MARKS = regex.compile(r"[\u064b-\u065f\u0670\u0640\u06d6-\u06ed]")
HEBREW_MARKS = regex.compile(r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
ALIKE = str.maketrans({"ı": "i", "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه", "ک": "ك", "ی": "ي", "ё": "е",
                       "ø": "o", "ł": "l", "đ": "d", "œ": "oe", "æ": "ae"})  # fmt: skip
TURKISH = str.maketrans({"I": "ı", "İ": "i"})


class Token(NamedTuple):
    """A word as it is written, or what stands between two; its place among the words.

    Attributes:
        text: of a word case-folded, without apostrophes, its accents kept.
        kind: ``word``, ``stop`` between clauses, or ``pause`` within one.
        at: index among the words; of others that of the next word.
    """

    text: str
    kind: str
    at: int


@lru_cache(maxsize=4096)
def tokens_of(text: str, turkish: bool = False) -> tuple[Token, ...]:
    """The words of a text with what stands between them.

    Args:
        text: any.
        turkish: upper-case I is a dotless one.
    """
    seen = UNSEEN.sub("", text).translate(QUOTES)
    plain = unicodedata.normalize("NFKC", seen.translate(TURKISH) if turkish else seen).casefold()
    plain = SUFFIX.sub("", PARTED.sub("", plain))
    plain = APOSTROPHE.sub("", ELIDED.sub(r"\1 ", plain)).replace("\u0307", "")
    found: list[Token] = []
    count = 0
    for match in TOKEN.finditer(unicodedata.normalize("NFC", plain)):
        kind = match.lastgroup or "word"
        found.append(Token(_digits(match[0]) if kind == "word" else match[0], kind, count))
        count += kind == "word"
    return tuple(found)


def words_of(text: str, turkish: bool = False) -> Words:
    """The words of a text: case-folded, without punctuation, underscores and hyphens."""
    return tuple(token.text for token in tokens_of(text, turkish) if token.kind == "word")


@lru_cache(maxsize=65536)
def folded(word: str) -> str:
    """A word without accents, dots and marks that its readers do without."""
    bare = ACCENTS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", HEBREW_MARKS.sub("", ARABIC_MARKS.sub("", bare))).translate(ALIKE)


def is_character(word: str) -> bool:
    """Whether a word is one character of a script without spaces."""
    return CHARACTER.match(word) is not None


def _digits(word: str) -> str:
    """Digits of all scripts as 0 to 9."""
    return "".join(str(unicodedata.digit(sign)) if unicodedata.category(sign) == "Nd" else sign for sign in word)
