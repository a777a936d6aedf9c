"""Failure kinds: what sort of wrong an answer is, by rule. The one place where they are defined.

The paper (section 4.2) names three kinds and shows an example of each; the others are what fine-tuned models do
besides. First match wins:

=================================== ===================================================================== ==============
kind                                rule                                                                  in the paper
=================================== ===================================================================== ==============
withheld by a filter                a content filter stood between the model and its answer
nothing                             no word at all
unfinished reasoning                a block of reasoning that never ends, and no answer
refusal                             asserts no class and declines, doubts or asks
echo of the prompt                  repeats six words in a row of the question, its label list aside,
                                    and names no class or several
several classes or a contradiction  names several classes of the set, or asserts none and denies one      intrinsic
outside the label set               its one class is only a place: "a fish in a tank"                     extrinsic
wrong class                         names one other class of the set                                      incorrect
class of another image set          nothing but an opening, an article and a label of another image set
outside the label set               anything else                                                         extrinsic
=================================== ===================================================================== ==============
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from emt_plugin.scoring.reader import Reader, Reading
from emt_plugin.scoring.tokens import Words, folded, words_of

FailureKind = Literal[
    "wrong class",
    "several classes or a contradiction",
    "outside the label set",
    "class of another image set",
    "echo of the prompt",
    "refusal",
    "unfinished reasoning",
    "nothing",
    "unparseable ruling",
    "withheld by a filter",
]
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)
WITHHELD: FailureKind = "withheld by a filter"
IN_THE_PAPER: dict[str, str] = {
    "wrong class": "incorrect prediction",
    "several classes or a contradiction": "intrinsic hallucination",
    "outside the label set": "extrinsic hallucination",
}
ECHO = 6
# Parts of a question shorter than this say nothing about an echo.
SHORTEST_FRAME = 3


class KindReader:
    """Tells failure kinds for one image set.

    Args:
        labels: its label names.
        frames: the question's text without the label list.
        others: label names of other image sets; those that are this one's too do not count.
        stems: openings of well-formed answers to all of them.
    """

    def __init__(
        self, labels: Sequence[str], frames: Iterable[str] = (), others: Iterable[str] = (), stems: Iterable[str] = ()
    ) -> None:
        own = {_plain(label) for label in labels}
        distinct = {_plain(label): label for label in others}
        self._others = Reader([label for words, label in distinct.items() if words and words not in own], stems)
        self._frames = [words for frame in frames if len(words := _plain(frame)) >= SHORTEST_FRAME]

    def kind(self, answer: str, reading: Reading, label: int) -> FailureKind | None:
        """What sort of wrong a read answer is, None where it is right."""
        if reading.empty:
            return "nothing"
        if reading.unfinished:
            return "unfinished reasoning"
        if reading.refused:
            return "refusal"
        if reading.prediction == label:
            return None
        if len(reading.named) != 1 and self._is_echo(_plain(answer)):
            return "echo of the prompt"
        if len(reading.named) > 1 or reading.denied:
            return "several classes or a contradiction"
        if reading.named:
            return "outside the label set" if reading.as_place else "wrong class"
        return "class of another image set" if self._others.read(answer).well_formed else "outside the label set"

    def _is_echo(self, words: Words) -> bool:
        return any(_runs(frame, min(ECHO, len(frame))) & _runs(words, min(ECHO, len(frame))) for frame in self._frames)


def _plain(text: str) -> Words:
    return tuple(map(folded, words_of(text)))


def _runs(words: Words, length: int) -> set[Words]:
    return {words[start : start + length] for start in range(len(words) - length + 1)}
