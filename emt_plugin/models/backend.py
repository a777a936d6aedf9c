"""The boundary between the suite and whatever runs a multimodal LLM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import ModelSpec, Question
from emt_plugin.models.checkpoint import Checkpoint
from emt_plugin.records import Cost
from emt_plugin.scoring import Observation, Want
from emt_plugin.settings import Compute
from emt_plugin.store import Store

if TYPE_CHECKING:
    from PIL import Image

    from emt_plugin.models.vision.tower import VisionTower

# Answers are greedy and no longer than this many tokens.
MAX_NEW_TOKENS = 32
# Where a model runs that is not in this process.
ELSEWHERE = "elsewhere"
BATCH = 16


@dataclass(frozen=True)
class Request:
    """What a backend is made from.

    Attributes:
        spec: the model, from the catalog or the command line.
        compute: how models are run.
        store: where what was computed is kept.
        say: told what a person who waits should know.
        base: what the model is a checkpoint of; it has the base's architecture and runs in its dtype.
    """

    spec: ModelSpec
    compute: Compute
    store: Store
    say: Callable[[str], None]
    base: ModelSpec | None = None


@dataclass(frozen=True)
class BackendFacts:
    """What a model tells of itself, for the record.

    Attributes:
        architecture: its class; empty where it does not say.
        attention: implementation of attention; empty where it does not say.
        generation: how answers are generated, as plain data; part of what stored answers are found by.
    """

    architecture: str = ""
    attention: str = ""
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inside:
    """A model in this process whose vision tower can be looked at.

    Attributes:
        model: from transformers.
        stored_dtype: what its weights were stored in, which may be coarser than what they are loaded in.
        vision: its tower with its preprocessing, where one forward may serve the encoder too.
    """

    model: Any
    stored_dtype: str
    vision: VisionTower | None = None


class Backend(ABC):
    """Runs a multimodal LLM. Only plain data goes in and comes out, so it may live in another process.

    A backend is made without loading anything: a run whose results are all stored asks it for its identity and for
    nothing else. It loads when it is first asked for what only a loaded model tells.

    Attributes:
        device: where it runs; models on one device take turns.
        dtype: what it computes in.
    """

    device: str = ELSEWHERE
    dtype: str = "unknown"

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that determines its observations, but for what it is asked: the content of weights, or what a server reports.

        Plain data. Stored results are found by it, so a name or an address alone will not do where what is behind it may
        change. An entry ``weights`` is shown as the model's fingerprint.

        Raises:
            CouldNotRun: it cannot be had.
        """

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[Want]:
        """What it can observe; a scorer that wants more is refused before the first image."""

    @abstractmethod
    def render(self, prompt: str) -> str:
        """The conversation with a prompt, as the model is given it."""

    @abstractmethod
    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """Observe some images, in their order and in batches of its own.

        Args:
            images: RGB.
            question: what is asked of each, and the answers whose probability is wanted.
            want: a subset of ``capabilities``.

        Raises:
            CouldNotRun: they cannot be observed.
        """

    @property
    def batch_size(self) -> int:
        """How many images it takes at once; it is handed about as many, each of which is written down before the next."""
        return BATCH

    def facts(self) -> BackendFacts:
        """What is recorded of it."""
        return BackendFacts()

    def in_force(self) -> Mapping[str, Any]:
        """How it ran in this run, for the record; plain data."""
        return {}

    def cost(self) -> Cost | None:
        """What it has asked for and what that cost, since it was made; None where asking costs nothing but time."""
        return None

    def is_dated(self) -> bool:
        """Whether a prompt is rendered in another way each day."""
        return False

    def bytes_needed(self) -> int:
        """Memory that its weights take on ``device``."""
        return 0

    def sees_with(self) -> Checkpoint | None:
        """The checkpoint on this machine that its vision tower is in, by which its encoder may be known; None for none."""
        return None

    def inside(self) -> Inside | None:
        """The model itself, so that its tower can be compared with an encoder's; None where it is elsewhere."""
        return None

    def anew(self) -> AbstractContextManager[None]:
        """A context in which every image is computed anew, whatever is kept of it."""
        return nullcontext()

    def close(self) -> None:
        """Free what is loaded; it may be asked again later."""
        return
