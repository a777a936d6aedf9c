"""A checkpoint that transformers runs in this process, loaded when something has to be computed and not before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import ModelSpec, Question
from emt_plugin.models.backend import MAX_NEW_TOKENS, Backend, BackendFacts, Inside, Request
from emt_plugin.models.checkpoint import Checkpoint, find
from emt_plugin.models.devices import default_device, free_memory, refuse_missing_device
from emt_plugin.scoring import Observation, Want
from emt_plugin.settings import Compute
from emt_plugin.store import Store, code_hash, minor_versions

if TYPE_CHECKING:
    from PIL import Image

    from emt_plugin.models.transformers_backend import TransformersBackend

PACKAGES = ("torch", "transformers", "tokenizers", "pillow")
IMAGE_PROCESSOR_BACKEND = "pil"


class CheckpointBackend(Backend):
    """See ``Backend``; what is loaded is a ``TransformersBackend``.

    Raises:
        CouldNotRun: the checkpoint is not on this machine, not in a format that is loaded here, or not one of its base's.
    """

    def __init__(self, request: Request) -> None:
        spec = request.spec
        self.checkpoint = _checkpoint(spec)
        self.checkpoint.refuse_other_base(spec.adapter_base, request.store)
        like = self.checkpoint
        if request.base:
            like = _checkpoint(request.base)
            if spec.source != request.base.source:
                self.checkpoint.refuse_other_architecture(like)
        self.device = request.compute.device or default_device(request.store)
        self.dtype = request.compute.dtype or ("float32" if self.device == "cpu" else like.own_dtype())
        self._request = request
        self._engine: TransformersBackend | None = None

    @property
    def engine(self) -> TransformersBackend:
        """The model in memory.

        Raises:
            CouldNotRun: it cannot be loaded.
        """
        if self._engine is None:
            from emt_plugin.models.transformers_backend import TransformersBackend

            refuse_missing_device(self.device)
            compute, remote = self._request.compute, self._request.spec.trust_remote_code
            self._engine = TransformersBackend(
                self.checkpoint, self.device, self.dtype, compute.batch_size, remote, compute.attention,
                self._request.store, self._request.say, compute.generation,
            )  # fmt: skip
        return self._engine

    def identity(self) -> Mapping[str, Any]:
        """Content of weights and settings, and all that decides how they are computed with."""
        request = self._request
        return checkpoint_identity(
            self.checkpoint, self.device, self.dtype, request.compute, request.store, request.spec.trust_remote_code
        )

    @property
    def capabilities(self) -> frozenset[Want]:
        """Features where the model says which an image has."""
        return self.engine.capabilities

    @property
    def batch_size(self) -> int:
        """How many images the next forward takes."""
        return self.engine.batch_size

    def render(self, prompt: str) -> str:
        """By the checkpoint's own chat template, or its family's plain prompt."""
        return self.engine.render(prompt)

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """See ``TransformersBackend``."""
        return self.engine.observe(images, question, want)

    def facts(self) -> BackendFacts:
        """See ``BackendFacts``."""
        architecture = ", ".join(self.checkpoint.config.get("architectures") or ())
        return BackendFacts(architecture, self.engine.attention, self.engine.generation)

    def in_force(self) -> Mapping[str, Any]:
        """Threads, batch size, and how labels were ranked."""
        if self._engine is None:
            return {}
        import torch

        facts = {"threads": torch.get_num_threads(), "batch_size": self._engine.batch_size}
        packs = self._engine.packs
        return facts if packs is None else {**facts, "labels_ranked": "packed" if packs else "one by one"}

    def is_dated(self) -> bool:
        """Whether the chat template writes the date into prompts."""
        return self.checkpoint.is_dated()

    def bytes_needed(self) -> int:
        """Of all its tensors in the dtype that they are loaded in."""
        return self.checkpoint.bytes_needed(self.dtype)

    def sees_with(self) -> Checkpoint | None:
        """The checkpoint itself."""
        return self.checkpoint

    def inside(self) -> Inside | None:
        """The model, and its tower where images all have one size for it."""
        return Inside(self.engine.model, self.checkpoint.stored_dtype(), self.engine.vision)

    def anew(self) -> AbstractContextManager[None]:
        """The vision tower sees every image anew, and nothing of that is kept."""
        return self.engine.unshelved()

    def close(self) -> None:
        """Let go of the model."""
        if self._engine is not None:
            self._engine = None
            free_memory(self.device)


def checkpoint_identity(
    checkpoint: Checkpoint, device: str, dtype: str, compute: Compute, store: Store, remote_code: bool = False
) -> dict[str, Any]:
    """All that determines what a checkpoint, of a model or of an encoder, makes of an image."""
    return {
        "weights": checkpoint.fingerprint(store),
        "settings": checkpoint.settings_hash(store),
        "dtype": dtype,
        "device": device.partition(":")[0],
        "attention": compute.attention or "the model's own",
        "remote_code": remote_code,
        "generation": [compute.generation, MAX_NEW_TOKENS],
        "image_processor": IMAGE_PROCESSOR_BACKEND,
        "packages": minor_versions(*PACKAGES, *(["peft"] if checkpoint.adapter else [])),
        "code": code_hash(
            "models", "encoders", "data/pixels.py", "evaluation/observing.py", "evaluation/tasks.py", "evaluation/models.py"
        ),
    }


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    return find(spec.source, spec.shown, spec.name, spec.revision, adapter=spec.adapter)
