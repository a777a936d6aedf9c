"""What a model and its encoder are asked, a batch at a time, in this process or in others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from emt_plugin.catalog import Question
from emt_plugin.models.backend import Backend
from emt_plugin.scoring import Observation, Want

if TYPE_CHECKING:
    from PIL import Image


class Classifier(Protocol):
    """What is asked of an encoder; see ``ZeroShotEncoder``."""

    def classify(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[int]:
        """Index of the nearest caption for every image."""

    def nearest_label(self, answers: Sequence[str], labels: Sequence[str]) -> list[int]:
        """For each answer the label whose text embedding is nearest."""


@dataclass(frozen=True)
class Task:
    """What is to be made of one batch of images.

    Attributes:
        images: RGB.
        question: what is asked of each.
        wants: what is observed of which images, by their places; those of one entry share their forwards.
        captions: what the encoder chooses from.
        classified: places of the images that the encoder classifies.
        anew: compute everything, whatever is kept of these images.
    """

    images: tuple[Image.Image, ...]
    question: Question
    wants: tuple[tuple[frozenset[Want], tuple[int, ...]], ...] = ()
    captions: tuple[str, ...] = ()
    classified: tuple[int, ...] = ()
    anew: bool = False


@dataclass(frozen=True)
class Done:
    """What was made of a batch.

    Attributes:
        observations: by place in the batch.
        classes: the encoder's, by place in the batch.
    """

    observations: Mapping[int, Observation] = field(default_factory=dict)
    classes: Mapping[int, int] = field(default_factory=dict)


class Pending(Protocol):
    """A task that was handed on."""

    def is_done(self) -> bool:
        """Whether ``result`` returns at once."""

    def result(self) -> Done:
        """What was made of the batch; waits for it.

        Raises:
            CouldNotRun: it cannot be done.
        """

    def drop(self) -> None:
        """Nobody will ask for its result."""


class Here:
    """A task that is done in this process, when its result is asked for."""

    def __init__(self, work: Callable[[], Done]) -> None:
        self._work = work

    def is_done(self) -> bool:
        """It is begun no sooner than it is waited for."""
        return False

    def result(self) -> Done:
        """See ``Pending``."""
        return self._work()

    def drop(self) -> None:
        """It was never begun."""


def carried_out(backend: Backend, encoder: Classifier | None, task: Task) -> Done:
    """Do a task: what is observed first, and then the encoder, which may share the vision pass.

    Raises:
        CouldNotRun: memory ran out with one image, or the model cannot observe one.
    """
    observations: dict[int, Observation] = {}
    with backend.anew() if task.anew else nullcontext():
        for want, places in task.wants:
            seen = backend.observe([task.images[place] for place in places], task.question, want)
            observations |= dict(zip(places, seen, strict=True))
        if not task.classified or encoder is None:
            return Done(observations)
        classes = encoder.classify([task.images[place] for place in task.classified], task.captions)
    return Done(observations, dict(zip(task.classified, classes, strict=True)))


def in_turn(tasks: Iterable[Task], ask: Callable[[Task], Pending], ahead: int) -> Iterator[Done]:
    """The results of tasks in their order, of which so many are under way beside the one that is waited for."""
    under_way: deque[Pending] = deque()
    for task in tasks:
        under_way.append(ask(task))
        if len(under_way) > ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
