"""The protocol between the suite and whatever runs a multimodal LLM."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from PIL import Image

from emt_plugin.scoring import Observation, Want


class Backend(Protocol):
    """Runs a multimodal LLM. Only plain data goes in and comes out, so it may live in another process."""

    capabilities: frozenset[Want]
    """What it can observe; anything else is refused before the run starts."""

    fingerprint: str
    """Content hash of the weights."""

    def observe(
        self, images: Sequence[Image.Image], prompt: str, labels: Sequence[str], want: Collection[Want]
    ) -> list[Observation]:
        """Observe some images, in their order.

        Args:
            images: RGB.
            prompt: the question, without chat template.
            labels: label names, for ``label_logprobs``.
            want: a subset of ``capabilities``.
        """
        ...
