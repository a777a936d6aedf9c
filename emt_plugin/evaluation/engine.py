"""Where models are loaded: in this process, or on machines of a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emt_plugin.catalog import ModelSpec
from emt_plugin.evaluation.loaded import Loaded
from emt_plugin.models.backend import Backend
from emt_plugin.settings import Compute
from emt_plugin.store import Store


@dataclass(frozen=True)
class Wanted:
    """A model that is to be loaded.

    Attributes:
        spec: what it was asked for by.
        backend: what would run it in this process.
        has_encoder: whether an encoder is known.
        key: all that determines its observations, but for what it is asked.
        encoder_key: the same of its encoder.
    """

    spec: ModelSpec
    backend: Backend
    has_encoder: bool
    key: Mapping[str, Any]
    encoder_key: Mapping[str, Any]


class Engine(ABC):
    """Where models are loaded.

    Attributes:
        leases: whether memory of this machine is leased for them.
    """

    leases = True

    @abstractmethod
    def load(self, wanted: Wanted, here: Callable[[], Loaded]) -> Loaded:
        """A model that can be asked; ``here`` loads it in this process.

        Raises:
            CouldNotRun: it cannot be loaded.
        """

    def placed(self, compute: Compute, store: Store) -> Compute:
        """How models are run where they run: what only the engine knows is filled in.

        Raises:
            CouldNotRun: what they run on is out of reach.
        """
        return compute

    def close(self) -> None:
        """Let go of all that it holds."""
        return


class ThisProcess(Engine):
    """Models run in the process that measures."""

    def load(self, wanted: Wanted, here: Callable[[], Loaded]) -> Loaded:
        """See ``Engine``."""
        return here()
