"""What a backend saw of one image, what a scorer makes of it, and the protocol between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Want = Literal["answer", "label_logprobs", "features"]
FailureKind = Literal["wrong class", "several classes", "outside the label set", "no answer"]
FAILURE_KINDS: tuple[FailureKind, ...] = ("wrong class", "several classes", "outside the label set", "no answer")


@dataclass(frozen=True)
class Observation:
    """What a backend saw of one image; what was not wanted is None.

    Attributes:
        answer: the text that the model generated, without special tokens.
        label_logprobs: natural log-probability of each label as the answer.
        features: the vision tower's features, flat.
        new_tokens: how many tokens were generated.
    """

    answer: str | None = None
    label_logprobs: tuple[float, ...] | None = None
    features: tuple[float, ...] | None = None
    new_tokens: int | None = None


@dataclass(frozen=True)
class Score:
    """How one observation was read.

    Attributes:
        prediction: index of the class it names, None where it names no class or more than one.
        correct: whether that is the image's label; None for a scorer that cannot say.
        kind: what sort of wrong it is; None where it is right.
        well_formed: nothing is left of the answer beyond an opening, an article and the label.
    """

    prediction: int | None
    correct: bool | None
    kind: FailureKind | None
    well_formed: bool | None = None


class Scorer(Protocol):
    """Turns observations into scores; has no state that one image could leave to the next."""

    name: str
    version: str
    wants: frozenset[Want]

    def score(self, observation: Observation, label: int, labels: Sequence[str]) -> Score:
        """The score of one observation.

        Args:
            observation: with everything in ``wants``.
            label: index of the image's label.
            labels: all label names, underscores as spaces.
        """
        ...
