"""A model that is in memory, here or elsewhere, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from emt_plugin.evaluation.tasks import Classifier, Here, Pending, Task, carried_out
from emt_plugin.models.backend import Backend
from emt_plugin.scoring import Want


@dataclass(frozen=True)
class Facts:
    """What only a loaded model tells, remembered so that it need not be loaded for it.

    Attributes:
        architecture: the model's class.
        attention: implementation of attention that the model took.
        capabilities: what can be observed.
        own: the encoder is the model's own.
        tower_words: how the model's tower compares with the encoder's, for people.
        tower: hash of the tower that the encoder classifies with.
        generation: the generation config in force.
        encoder_problem: why the encoder cannot classify, where another reference gates; empty where it can.
    """

    architecture: str
    attention: str
    capabilities: Sequence[Want]
    own: bool
    tower_words: str
    tower: str
    generation: Mapping[str, Any]
    encoder_problem: str = ""

    @property
    def has_features(self) -> bool:
        """Whether features can be observed."""
        return "features" in self.capabilities


@dataclass(frozen=True)
class Loaded:
    """What is in memory.

    Attributes:
        backend: what runs the model.
        encoder: its encoder, None where none is known.
        facts: what it tells.
        ahead: batches that are best under way beside the one that is waited for.
    """

    backend: Backend
    encoder: Classifier | None
    facts: Facts
    ahead: int = 0

    def ask(self, task: Task) -> Pending:
        """Hand a task on."""
        return Here(partial(carried_out, self.backend, self.encoder, task))

    def work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function of some module, run where the model is."""
        return function(*arguments)
