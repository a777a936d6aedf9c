"""The protocol between the suite and whatever runs a multimodal LLM."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from emt_plugin.catalog import Question
from emt_plugin.scoring import Observation, Want

if TYPE_CHECKING:
    from PIL import Image

# Answers are greedy and no longer than this many tokens.
MAX_NEW_TOKENS = 32


class Backend(Protocol):
    """Runs a multimodal LLM. Only plain data goes in and comes out, so it may live in another process."""

    @property
    def capabilities(self) -> frozenset[Want]:
        """What it can observe; anything else is refused before the run starts."""
        ...

    @property
    def fingerprint(self) -> str:
        """Content hash of the weights."""
        ...

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """Observe some images, in their order.

        Args:
            images: RGB.
            question: what is asked of each, and the answers whose probability is wanted.
            want: a subset of ``capabilities``.
        """
        ...
