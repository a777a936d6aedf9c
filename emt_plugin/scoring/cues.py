"""Words by which a sentence denies, doubts, declines, asks or takes back: ``cues.toml``, compiled."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regex

# regex ships no types.
Pattern = Any
LISTS: Mapping[str, Mapping[str, Sequence[str]]] = tomllib.loads(
    (Path(__file__).parent / "cues.toml").read_text(encoding="utf-8")
)
# "The cat is not there" denies a cat, "the cat is not asleep" does not.
PLACEHOLDERS = {
    "NOT_THERE": "(?:not|(?:is|are|was|were|do|does|did|could|has|have)nt|cannot|cant)"
    "(?=_(?:visible|present|there|here|in|on|seen|shown|be|been|depicted|pictured|found|it|the_|what|correct|right|appear|exist)|$)",
    "NICHT_DA": "nicht(?=_(?:zu|vorhanden|da|hier|sichtbar|im|auf|in|abgebildet|dabei)|$)",
}


def _cue(name: str) -> Pattern:
    found = LISTS[name]
    words = [PLACEHOLDERS.get(word, word).replace("_", " ") for word in found["words"]]
    whole = rf"(?<![^\s])(?:{'|'.join(words)})(?![^\s])" if words else ""
    return regex.compile("|".join(filter(None, [whole, *found.get("signs", ())])))


def _bare(name: str) -> Pattern:
    """A clause that is nothing but one of these, and words that say no more."""
    filler, said = "|".join(LISTS["filler"]["words"]), "|".join(LISTS[name]["words"])
    signs = "|".join(LISTS[name]["signs"])
    return regex.compile(rf"(?:(?:{filler}) )*(?:{said})(?: (?:{filler}|{said}))*|{signs}")


NO_DENIAL, DENIES, AUXILIARY, DENIES_BEFORE = map(_cue, ("no_denial", "denies", "auxiliary", "denies_before"))
IDLE_MAYBE = _cue("idle_maybe")
MAYBE, UNSURE, AT_THE_END, DECLINES, AS_AN_AI = map(_cue, ("maybe", "unsure", "at_the_end", "declines", "as_an_ai"))
WHETHER, WEAK_WHETHER, CONTRAST, OR = map(_cue, ("whether", "weak_whether", "contrast", "or"))
LOOKS, GRANTS = map(_cue, ("looks", "grants"))
TAG, ASKS = map(_cue, ("tag", "asks"))
BARE_DENIAL, BARE_YES = map(_bare, ("denying", "affirming"))
ASKS_BEFORE = regex.compile(rf"\s?(?:{'|'.join(LISTS['asks_before']['words'])})(?![^\s])")
# "It may be" in Korean, right behind what it may be.
KOREAN_MAY = regex.compile(r"\s?수(?:도)? 있")
