"""Where labels are mentioned in an answer, and what is said of them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from emt_plugin.scoring.tokens import Token

Status = Literal["asserted", "denied", "doubted", "declined", "asked"]
# Words that neither deny, doubt nor decline anything: an answer of these and labels asserts what it names.
NEUTRAL = frozenset(
    {"a", "an", "the", "this", "that", "it", "its", "is", "are", "was", "were", "of", "in", "on", "and", "with", "n", "i",
     "see", "object", "objects", "number", "digit", "image", "picture", "photo", "shown", "shows", "answer"}
)  # fmt: skip


class Span(NamedTuple):
    """Where a label is mentioned: its first word, and the word behind its last."""

    start: int
    end: int


class Said(NamedTuple):
    """What is said of some mentions, in their order, and whether the answer declines anything."""

    statuses: Sequence[Status]
    declines: bool


def plainly_said(tokens: Sequence[Token], spans: Sequence[Span]) -> Said | None:
    """What an answer says that is nothing but labels and neutral words; None where its clauses have to be looked at."""
    inside = {at for span in spans for at in range(span.start, span.end)}
    for token in tokens:
        if token.text in "?؟" or (token.kind == "word" and token.at not in inside and token.text not in NEUTRAL):
            return None
    return Said(["asserted"] * len(spans), declines=False)
