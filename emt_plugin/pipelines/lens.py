"""LENS (Berrios et al. 2023, arXiv 2306.16410): images become words, and a language model answers from those.

CLIP finds tags and attributes among two vocabularies, BLIP writes captions, and an encoder-decoder reads all three with the
question. Captions are written by beams, where the released code draws them at random: equal images get equal answers here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import Question
from emt_plugin.models.backend import MAX_NEW_TOKENS, Backend, BackendFacts, Inside, Request
from emt_plugin.models.checkpoint import Checkpoint
from emt_plugin.models.checkpoint_backend import checkpoint_identity
from emt_plugin.models.devices import free_memory, refuse_missing_device
from emt_plugin.pipelines.lens_parts import PROMPT, assembled, words_hash
from emt_plugin.scoring import Observation, Want
from emt_plugin.store import code_hash

if TYPE_CHECKING:
    from PIL import Image

    from emt_plugin.pipelines.lens_engine import LensEngine


class LensBackend(Backend):
    """A LENS; ``source`` is a TOML file of its parts, see ``LensParts``.

    Raises:
        CouldNotRun: a part is not on this machine, or not in a format that is loaded here.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.assembled = assembled(request)
        self.device, self.dtype = self.assembled.device, self.assembled.dtype
        self._engine: LensEngine | None = None

    @property
    def engine(self) -> LensEngine:
        """The models in memory.

        Raises:
            CouldNotRun: one of them cannot be loaded.
        """
        if self._engine is None:
            from emt_plugin.pipelines.lens_engine import LensEngine

            refuse_missing_device(self.device)
            self._engine = LensEngine(self.assembled, self._request.store)
        return self._engine

    def identity(self) -> Mapping[str, Any]:
        """Content of all three checkpoints, of both vocabularies, and the numbers."""
        request = self._request
        parts = {
            name: checkpoint_identity(checkpoint, self.device, self.dtype, request.compute, request.store)
            for name, checkpoint in self.assembled.checkpoints.items()
        }
        numbers = {name: value for name, value in asdict(self.assembled.parts).items() if not isinstance(value, str)}
        return {
            "weights": words_hash(tuple(str(part["weights"]) for part in parts.values())),
            **parts,
            "tags": words_hash(self.assembled.tags),
            "attributes": words_hash(self.assembled.attributes),
            **numbers,
            "pipeline": code_hash("pipelines"),
        }

    @property
    def capabilities(self) -> frozenset[Want]:
        """No features: there is no projector between the tower and the language model."""
        return frozenset({"answer", "label_logprobs"})

    def facts(self) -> BackendFacts:
        """The language model's class, and that answers are greedy."""
        architecture = ", ".join(["LENS", *(self.assembled.writer.config.get("architectures") or ())])
        return BackendFacts(architecture, "", {"do_sample": False, "num_beams": 1, "max_new_tokens": MAX_NEW_TOKENS})

    def render(self, prompt: str) -> str:
        """What the language model reads, with names for what is found in the image."""
        return PROMPT.format(tags="{tags}", attributes="{attributes}", captions="{captions}", question=prompt)

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """See ``LensEngine``."""
        return self.engine.observe(images, question, want)

    @property
    def batch_size(self) -> int:
        """Images in one forward."""
        return self.engine.batch_size

    def in_force(self) -> Mapping[str, Any]:
        """Batch size and threads."""
        if self._engine is None:
            return {}
        import torch

        return {"threads": torch.get_num_threads(), "batch_size": self._engine.batch_size}

    def bytes_needed(self) -> int:
        """Of all three checkpoints."""
        return sum(part.bytes_needed(self.dtype) for part in self.assembled.checkpoints.values())

    def sees_with(self) -> Checkpoint | None:
        """The CLIP."""
        return self.assembled.clip

    def inside(self) -> Inside | None:
        """The CLIP, and its tower: encoder and pipeline share one forward."""
        clip = self.engine.clip
        return Inside(clip.model, self.assembled.clip.stored_dtype(), clip.vision)

    def anew(self) -> Any:
        """The CLIP sees every image anew."""
        return self.engine.clip.vision.unshelved()

    def close(self) -> None:
        """Let go of all three models."""
        if self._engine is not None:
            self._engine = None
            free_memory(self.device)
