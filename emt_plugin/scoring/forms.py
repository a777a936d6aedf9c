"""The forms in which an answer may name each label, from its own words to looser ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import regex

from emt_plugin.scoring.numbers import number_of, numbers_in, words_of_number
from emt_plugin.scoring.tokens import Words, folded, is_character, words_of

Classes = frozenset[int]
# Leading ids of folder names: 001.Black_footed_Albatross, n02085620-Chihuahua, 12_cat.
LEADING_ID = regex.compile(
    r"\s*[#(\[]?\s*(?:(?:class|category|label|item|id)[\s_.-]*)?(?:[a-z]?\d{2,}|\d+|[a-z](?=\s*[.):\]]))\s*[.)\]_:–-]+\s*[-–]?\s*(?=\D)"
    r"|\s*(?:#?\d+|n\d{8})\s+(?=\p{L})",
    regex.IGNORECASE,
)
# Letters by which labels can be named: (A) cat, B. dog.
LETTER_ID = regex.compile(r"\s*\(?([a-z])\s*[.):\]]", regex.IGNORECASE)
TRAILING_ID = regex.compile(r"(?:[._][nvars])?[._]\d{2,}\s*$", regex.IGNORECASE)
# What a label may open with that names nothing: digit_7, the cat, a photo of a dog.
HEAD = regex.compile(
    r"\s*(?:(?:(?:an?|the)[\s_]+)?(?:photo|image|picture|drawing|sketch)[\s_]+of[\s_]+(?:(?:an?|the)[\s_]+)?(?=\w)"
    r"|(?:class|category|label|digit|number|letter)(?!\p{L})[\s_.:-]*(?=[^\W_])"
    r"|(?:an?|the|le|la|les|une?|der|die|das|eine?|el|los|las|una|il|lo|gli|uno|de|het|een|os?|as|uma?)\s+(?=\p{L})"
    r"|l['’]\s*(?=\p{L}))",
    regex.IGNORECASE,
)
UNIT = regex.compile(r"(\d+)(km|kmh|kph|mph|cm|mm|kg|ml)$")
BRACKETS = regex.compile(r"\s*[(\[{（［][^)\]}）］]*[)\]}）］]")
APART = regex.compile(r"\s*[,;/|，、／]\s*|\s+[-–—]\s+|_{2,}")
PLURALS = {"mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "person": "people", "child": "children",
           "ox": "oxen", "wolf": "wolves", "leaf": "leaves", "knife": "knives", "loaf": "loaves",
           "shelf": "shelves", "calf": "calves", "half": "halves", "elf": "elves", "scarf": "scarves", "hoof": "hooves",
           "thief": "thieves", "louse": "lice", "cactus": "cacti", "octopus": "octopi", "fungus": "fungi",
           "die": "dice"}  # fmt: skip
SINGULARS = {plural: singular for singular, plural in PLURALS.items()}
NO_PLURAL = frozenset({"news", "lens", "series", "species"})
# Particles and copulas that are written onto a noun.
KOREAN_ENDINGS = (
    "이었습니다", "같습니다", "였습니다", "입니까", "인가요", "일까요", "입니다", "이라고", "이에요", "이네요",
    "이지요", "이구나", "같아요", "라고", "에서", "으로", "처럼", "보다", "이나", "이랑", "하고", "이다", "예요",
    "이야", "이고", "이며", "인데", "네요", "지요", "이죠", "인가", "인것", "이란", "같은", "이라", "이", "가", "은",
    "는", "을", "를", "의", "도", "만", "에", "와", "과", "로", "나", "랑", "께", "다", "야", "인", "고", "며", "죠",
    "일", "란", "라", "였", "임",
)  # fmt: skip
TURKISH_ENDINGS = ("dir", "dır", "dur", "dür", "tir", "tır", "tur", "tür")
HANGUL = regex.compile(r"\p{Script=Hangul}")
ARABIC_ARTICLE = regex.compile(r"(?:[وفبك]?ال|لل|ولل)(?=\p{L}\p{M}*\p{L})")
HEBREW_ARTICLE = regex.compile(r"(?:ו?ה|שה|ב|ל)(?=\p{Script=Hebrew}\p{M}*\p{Script=Hebrew})")
SHORTEST_STEM = 3


@dataclass(frozen=True)
class Forms:
    """What names which classes.

    Attributes:
        tiers: from the strictest on, each a mapping of words to the classes that they name; and whether it wants words
            as they are written rather than folded.
        own: the labels' own words.
        longest: words of the longest form.
    """

    tiers: tuple[tuple[bool, Mapping[Words, Classes]], ...]
    own: frozenset[Words]
    longest: int

    def classes(self, words: Words) -> Classes | None:
        """The classes that exactly these words name, by the strictest way that knows them; None for none.

        What two labels share as a looser form names neither of them, and no looser one is tried.
        """
        plain = tuple(map(folded, words))
        for exact, forms in self.tiers:
            found = forms.get(words if exact else plain)
            if found:
                return found if len(found) == 1 or words in self.own else None
        return None


def forms_of(labels: Sequence[str], synonyms: Mapping[str, Sequence[str]], turkish: bool) -> Forms:
    """All forms of some labels.

    Args:
        labels: their names.
        synonyms: further names by label.
        turkish: see ``words_of``.
    """
    own = [words_of(label, turkish) for label in labels]
    names = [
        [words_of(name, turkish) for name in (*further, *synonyms.get(label, ()))]
        for label, further in zip(labels, _names(labels), strict=True)
    ]
    counting = numbers_in(own)
    exact = [{words} for words in own]
    other = [{form for form in found if form} for found in names]
    folds = [
        {tuple(map(folded, words)) for words in found}
        for found in (exact_one | other_one for exact_one, other_one in zip(exact, other, strict=True))
    ]
    loose = [
        {tuple(map(folded, variant)) for words in first | second for variant in _variants(words, counting)}
        for first, second in zip(exact, other, strict=True)
    ]
    tiers = (
        (True, _by_form(exact)),
        (False, _by_form([{tuple(map(folded, words)) for words in found} for found in exact])),
        (True, _by_form(other)),
        (False, _by_form(folds)),
        (False, _by_form(loose)),
    )
    longest = max((len(form) for _, forms in tiers for form in forms), default=1)
    return Forms(tiers, frozenset(own), longest)


def stems_of(word: str) -> Iterator[str]:
    """What is left of a word without an article, a particle or a copula that is written onto it."""
    if HANGUL.search(word):
        stems = [word.removesuffix(ending) for ending in KOREAN_ENDINGS if word.endswith(ending) and word != ending]
        yield from stems
        yield from (stem.removesuffix("들") for stem in (word, *stems) if stem.endswith("들"))
    for article in (ARABIC_ARTICLE, HEBREW_ARTICLE):
        found = article.match(word)
        if found:
            yield word[found.end() :]
    yield from (
        word.removesuffix(ending)
        for ending in TURKISH_ENDINGS
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM
    )


def _names(labels: Sequence[str]) -> list[list[str]]:
    """Further names that labels themselves have; what all of them open or close with in the same way is no part of a name."""
    bare = list(labels)
    for edge in (LEADING_ID, HEAD, TRAILING_ID):
        cut = [_without(edge, name) for name in bare]
        # 1 star and 2 stars are told apart by nothing but what would be cut.
        told_apart = len({name.casefold().rstrip("s") for name in cut}) > 1
        bare = cut if all(cut) and told_apart else bare
    letters = [found[1] for label in labels if (found := LETTER_ID.match(label))]
    lettered = len(labels) > 1 and len({letter.casefold() for letter in letters}) == len(labels)
    return [
        [*_names_of(label, name), *(letters[index : index + 1] if lettered else ())]
        for index, (label, name) in enumerate(zip(labels, bare, strict=True))
    ]


def _names_of(label: str, bare: str) -> Iterator[str]:
    if bare != label:
        yield bare
    short = BRACKETS.sub("", bare)
    if short.strip() and short != bare:
        yield short
    for part in (*APART.split(short), *APART.split(label)):
        if part.strip() and part not in (short, label):
            yield BRACKETS.sub("", part)


def _without(edge: regex.Pattern[str], label: str) -> str:
    """A label without what it opens or closes with; empty where it does not, or is nothing else."""
    found = edge.search(label) if edge is TRAILING_ID else edge.match(label)
    return (label[: found.start()] + label[found.end() :]).strip() if found else ""


def _by_form(found: Iterable[Iterable[Words]]) -> dict[Words, Classes]:
    forms: dict[Words, set[int]] = {}
    for index, variants in enumerate(found):
        for form in variants:
            if form:
                forms.setdefault(form, set()).add(index)
    return {form: frozenset(classes) for form, classes in forms.items()}


def _variants(words: Words, counting: str | None) -> Iterator[Words]:
    """Other forms of a name's words: joined, in the other number, as digits or as a number word, without what is written on."""
    number = number_of(words, counting)
    if number is not None:
        yield (str(number),)
    *first, last = words
    if any(is_character(word) for word in words):
        return
    joined = "".join(words)
    if len(words) > 1:
        yield (joined,)
    if "and" in words[1:-1]:
        yield tuple(word for word in words if word != "and")
    yield from _other_numerals(words)
    written = tuple(word.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue") for word in words)
    if written != words:
        yield written
    apart = tuple(part for word in words for part in UNIT.sub(r"\1 \2", word).split())
    if apart != words:
        yield apart
    if last.isascii() and last.isdigit():
        if last.lstrip("0") != last:
            yield (*first, last.lstrip("0") or "0")
        yield from ((*first, *found) for found in words_of_number(int(last)))
        return
    yield from ((*first, stem) for stem in stems_of(last) if not HANGUL.search(last))
    if last.isalpha():
        for other in _other_number(last):
            yield (*first, other)
            if first:
                yield (joined.removesuffix(last) + other,)


def _other_numerals(words: Words) -> Iterator[Words]:
    """Two stars for 2 stars, and 2 stars for two stars: what counts stands first."""
    first, *rest = words
    if rest and first.isascii() and first.isdigit():
        yield from ((*found, *rest) for found in words_of_number(int(first)) if len(found) == 1)
    elif rest and (number := number_of((first,), "en")) is not None:
        yield (str(number), *rest)


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
    elif word.endswith(("s", "x", "z", "ch", "sh")):
        yield word + "es"
    else:
        yield word + "s"
    if word.endswith("o"):
        yield word + "es"
    if len(word) > 4 and word.endswith("ies"):
        yield word[:-3] + "y"
    elif len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        yield word[:-2]
    if len(word) > 3 and word[-1] == "s" and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
