"""What a backend saw of one image, what a scorer makes of it, and the protocols between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from emt_plugin.scoring.kinds import FailureKind
from emt_plugin.scoring.ruling import Ruling

Want = Literal["answer", "label_logprobs", "features"]


@dataclass(frozen=True)
class Observation:
    """What a backend saw of one image; what was not wanted is None.

    Attributes:
        answer: the text that the model generated, without special tokens.
        label_logprobs: natural log-probability of each label as the answer, end token included.
        label_tokens: how many tokens of each label's answer that sum is over.
        features: the mean patch token where the projector takes it, ``vision``, and behind it, ``projector``.
        new_tokens: how many tokens were generated.
        withheld: a content filter stood between the model and its answer.
    """

    answer: str | None = None
    label_logprobs: tuple[float, ...] | None = None
    label_tokens: tuple[int, ...] | None = None
    features: Mapping[str, tuple[float, ...]] | None = None
    new_tokens: int | None = None
    withheld: bool = False


@dataclass(frozen=True)
class Score:
    """How one observation was read.

    Attributes:
        prediction: index of the class it was read as, None where it is no class or more than one.
        correct: whether that is the image's label; None for a scorer that cannot say.
        kind: what sort of wrong it is; None where it is right.
        well_formed: nothing is left of the answer beyond an opening, an article and the label; None for a scorer that
            does not look at the form.
        detail: plain data that a reader of the predictions may want.
    """

    prediction: int | None
    correct: bool | None
    kind: FailureKind | None
    well_formed: bool | None = None
    detail: Any = None


class Scorer(Protocol):
    """Turns observations into scores; has no state that one image could leave to the next.

    A scorer may have ``classifies = False``, which says that it has no predictions by design, and so no confusion
    matrix; and ``facts()``, plain data that is recorded beside its scores.
    """

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


@runtime_checkable
class Prepared(Protocol):
    """A scorer that wants to see a whole batch before it scores one by one, because it asks others."""

    def prepare(self, observations: Sequence[Observation], labels: Sequence[int]) -> None:
        """See the observations of a batch with the indices of their labels."""
        ...


class Judge(Protocol):
    """Asks an LLM about answers."""

    def ask(self, questions: Sequence[tuple[str, str]]) -> Sequence[Ruling]:
        """A ruling on each (label, answer), in order."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a reader of the rulings should know of the judge."""
        ...


def _nobody(*_: Any) -> Any:
    raise NotImplementedError("this scorer needs a model that it was not handed")


@dataclass(frozen=True)
class ScorerContext:
    """What a scorer is made from: one image set, and what the compute layer can do for it.

    Attributes:
        labels: label names of the image set.
        stems: openings of a well-formed answer.
        frames: the question's text without the label list.
        others: label names of the image sets that the catalog knows.
        other_stems: openings of well-formed answers to them.
        synonyms: further names of the labels, by label.
        rule: how ``likelihood`` sums: ``sum`` over the tokens of a label, or their ``mean``.
        calibrated: whether ``likelihood`` takes off what a label gets under a mean-grey image.
        neutral: log-probability of each label under a mean-grey image, with the same prompt.
        nearest: for each text the label whose embedding is nearest, by the encoder's text tower.
        judge: rules on answers; None where none was asked for.
    """

    labels: tuple[str, ...]
    stems: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    other_stems: tuple[str, ...] = ()
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rule: Literal["sum", "mean"] = "sum"
    calibrated: bool = False
    neutral: Callable[[], Sequence[float]] = field(default=_nobody)
    nearest: Callable[[Sequence[str]], Sequence[int]] = field(default=_nobody)
    judge: Judge | None = None
