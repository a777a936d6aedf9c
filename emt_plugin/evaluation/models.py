"""A multimodal LLM with its encoder, loaded when something has to be computed and not before."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import Catalog, ModelSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.devices import default_device, device_memory, device_name, refuse_missing_device
from emt_plugin.evaluation.encoder_choice import BASE, chosen
from emt_plugin.mllms.backend import MAX_NEW_TOKENS
from emt_plugin.mllms.checkpoint import Checkpoint, find
from emt_plugin.settings import Compute
from emt_plugin.store import Shelf, Store, code_hash, key_hash, minor_versions
from emt_plugin.workers.leases import Lease, take

if TYPE_CHECKING:
    from emt_plugin.encoders import ZeroShotEncoder
    from emt_plugin.mllms.transformers_backend import TransformersBackend

PACKAGES = ("torch", "transformers", "tokenizers", "pillow")
IMAGE_PROCESSOR_BACKEND = "pil"


@dataclass(frozen=True)
class EncoderSource:
    """Where a model's encoder is, and how it was found."""

    checkpoint: Checkpoint
    id: str
    found_by: str


@dataclass(frozen=True)
class Facts:
    """What only a loaded model tells, remembered so that it need not be loaded for it.

    Attributes:
        architecture: the checkpoint's.
        attention: implementation of attention that the model took.
        own: the encoder is the model's own.
        tower_words: how the model's tower compares with the encoder's, for people.
        tower: hash of the tower that the encoder classifies with.
        has_features: features can be observed.
        generation: the generation config in force.
        encoder_problem: why the encoder cannot classify, where another reference gates; empty where it can.
    """

    architecture: str
    attention: str
    own: bool
    tower_words: str
    tower: str
    has_features: bool
    generation: Mapping[str, Any]
    encoder_problem: str = ""


@dataclass(frozen=True)
class Loaded:
    """What is in memory."""

    backend: TransformersBackend
    encoder: ZeroShotEncoder | None
    facts: Facts


class Room:
    """The memory of all that is loaded together: one lease, taken before the first part is loaded.

    Two workers that each held a part would wait for each other forever.
    """

    def __init__(self, take: Callable[[], Lease]) -> None:
        self._take = take
        self._lease: Lease | None = None

    def occupy(self) -> None:
        """Wait until there is memory for everything.

        Raises:
            CouldNotRun: there never is.
        """
        if self._lease is None:
            self._lease = self._take()

    def leave(self) -> None:
        """Give the memory back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None


@dataclass
class Model:
    """A model that can be asked about before it is loaded.

    Attributes:
        spec: what it was asked for by.
        checkpoint: where it is.
        encoder: its encoder, None where none is known.
        device: where it runs.
        dtype: what it is computed in.
        key: all that determines its observations, but for what it is asked.
        encoder_key: the same of its encoder; empty without one.
        room: the memory that it shares with what is loaded beside it.
        note: why there is no encoder although one is known.
    """

    spec: ModelSpec
    checkpoint: Checkpoint
    encoder: EncoderSource | None
    device: str
    dtype: str
    key: Mapping[str, Any]
    encoder_key: Mapping[str, Any]
    room: Room = field(repr=False)
    _load: Callable[[Model], Loaded] = field(repr=False)
    _shelf: Shelf = field(repr=False)
    note: str = ""
    _loaded: Loaded | None = field(default=None, repr=False)

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory."""
        return self._loaded is not None

    def loaded(self) -> Loaded:
        """The model in memory.

        Raises:
            CouldNotRun: it cannot be loaded, or there is no memory for it.
        """
        if self._loaded is None:
            refuse_missing_device(self.device)
            self.room.occupy()
            self._loaded = self._load(self)
            # What kept an encoder from classifying may be mended tomorrow, and stops a run that it gates.
            if not self._loaded.facts.encoder_problem:
                self._shelf.put({"facts": asdict(self._loaded.facts)})
        return self._loaded

    @property
    def facts(self) -> Facts:
        """See ``Facts``; loads the model where they are not remembered."""
        known = None if self._loaded else self._shelf.get("facts")
        return Facts(**known.value) if known else self.loaded().facts

    @property
    def classifier(self) -> EncoderSource | None:
        """Its encoder, where that can classify."""
        return self.encoder if self.encoder and not self.facts.encoder_problem else None

    def rendered(self, prompt: str) -> str:
        """The conversation with a prompt, as the model is given it."""
        name = f"prompt:{key_hash({'prompt': prompt})}"
        known = self._shelf.get(name)
        # A template that writes the date gives another prompt each day.
        if known and not self.checkpoint.is_dated():
            return str(known.value)
        text = self.loaded().backend.render(prompt)
        self._shelf.put({name: text})
        return text

    def free(self) -> None:
        """Give its memory back."""
        if self._loaded is not None:
            self._loaded = None
            gc.collect()
            if self.device.startswith("cuda"):
                import torch

                torch.cuda.empty_cache()
        self.room.leave()


class ModelLoader:
    """Finds models and loads them.

    Args:
        catalog: where an encoder is looked up by the shape of a tower.
        compute: how models are run.
        store: where facts and features are kept.
        say: told what a person who waits should know.
        encoder_gates: whether an encoder of a model that cannot be had stops a pair; else it is left out with a note.
        base: what all other models are checkpoints of: they have its architecture, and run in its dtype.
    """

    def __init__(
        self,
        catalog: Catalog,
        compute: Compute,
        store: Store,
        say: Callable[[str], None],
        encoder_gates: Callable[[ModelSpec], bool] = lambda spec: spec.reference == "encoder",
        base: ModelSpec | None = None,
    ) -> None:
        self._catalog = catalog
        self._compute = compute
        self._store = store
        self._say = say
        self._encoder_gates = encoder_gates
        self._base = base

    def find(self, spec: ModelSpec, reference: ModelSpec | None = None) -> Model:
        """A model with its encoder, neither of them loaded yet.

        Args:
            spec: from the catalog.
            reference: another model that will be in memory at the same time.

        Raises:
            CouldNotRun: it is not on this machine, or not in a format that is loaded here.
        """
        checkpoint = _checkpoint(spec)
        checkpoint.refuse_other_base(spec.adapter_base, self._store)
        if self._base and spec.source != self._base.source:
            checkpoint.refuse_other_architecture(_checkpoint(self._base))
        encoder, note = self._encoder(spec, checkpoint)
        together = [checkpoint, *([encoder.checkpoint] if encoder else []), *([_checkpoint(reference)] if reference else [])]
        device, dtype = self._placed(checkpoint)
        model = self._model(spec, checkpoint, encoder, Room(lambda: self._lease(spec, together, device, dtype)))
        model.note = note
        return model

    def find_reference(self, spec: ModelSpec, beside: Model) -> Model:
        """A model that another is compared with, in the other's room and without an encoder of its own.

        Raises:
            CouldNotRun: see ``find``.
        """
        return self._model(spec, _checkpoint(spec), None, beside.room)

    def _model(self, spec: ModelSpec, checkpoint: Checkpoint, encoder: EncoderSource | None, room: Room) -> Model:
        device, dtype = self._placed(checkpoint)
        key = self._key(checkpoint, device, dtype, spec.trust_remote_code)
        encoder_key = self._key(encoder.checkpoint, device, dtype) if encoder else {}
        shelf = self._store.shelf("facts", {"model": key, "encoder": encoder_key}, {"model": spec.id})
        return Model(spec, checkpoint, encoder, device, dtype, key, encoder_key, room, self._load, shelf)

    def _placed(self, checkpoint: Checkpoint) -> tuple[str, str]:
        """Device and dtype."""
        device = self._compute.device or default_device(self._store)
        like = _checkpoint(self._base) if self._base else checkpoint
        return device, self._compute.dtype or ("float32" if device == "cpu" else like.own_dtype())

    def _encoder(self, spec: ModelSpec, checkpoint: Checkpoint) -> tuple[EncoderSource | None, str]:
        """The model's encoder, and why there is none although one is known."""
        # By the catalog, no encoder has the tower of a model that a probe is the reference of, whatever its shape.
        alike = self._catalog.encoders_of_tower(checkpoint.tower) if spec.reference != "probe" else ()
        if not spec.encoder and not alike:
            return None, ""
        try:
            source = spec.encoder or chosen(checkpoint, alike)
            name = Path(source).name if Path(source).is_dir() else source
            found = find(source, f"the encoder {name}", spec.name if spec.encoder else source, encoder=True)
            return EncoderSource(found, name, (spec.encoder_from or "catalog") if spec.encoder else "tower shape"), ""
        except CouldNotRun as error:
            if self._encoder_gates(spec):
                # A shape is no more than a guess.
                otherwise = (
                    "" if spec.encoder else f"; or, where its tower was tuned, compare with --emt-reference probe or {BASE}"
                )
                raise CouldNotRun(f"{error}{otherwise}") from None
            return None, str(error)

    def _key(self, checkpoint: Checkpoint, device: str, dtype: str, remote_code: bool = False) -> dict[str, Any]:
        return {
            "weights": checkpoint.fingerprint(self._store),
            "settings": checkpoint.settings_hash(self._store),
            "dtype": dtype,
            "device": device.partition(":")[0],
            "attention": self._compute.attention or "the model's own",
            "remote_code": remote_code,
            "generation": [self._compute.generation, MAX_NEW_TOKENS],
            "image_processor": IMAGE_PROCESSOR_BACKEND,
            "packages": minor_versions(*PACKAGES, *(["peft"] if checkpoint.adapter else [])),
            "code": code_hash("mllms", "encoders", "data/pixels.py", "evaluation/observing.py", "evaluation/models.py"),
        }

    def _lease(self, spec: ModelSpec, together: list[Checkpoint], device: str, dtype: str) -> Lease:
        size = sum(part.bytes_needed(dtype) for part in together)
        return take(device_name(device), size, self._compute.memory or device_memory(device), spec.id, self._say)

    def _load(self, model: Model) -> Loaded:
        from emt_plugin.mllms.transformers_backend import TransformersBackend

        compute = self._compute
        backend = TransformersBackend(
            model.checkpoint, model.device, model.dtype, compute.batch_size, model.spec.trust_remote_code,
            compute.attention, self._store, self._say, compute.generation,
        )  # fmt: skip
        problem = ""
        try:
            encoder, own, words, tower = self._encoder_of(model, backend)
        except CouldNotRun as error:
            if self._encoder_gates(model.spec):
                raise
            encoder, own, words, tower, problem = None, False, "", "", str(error)
        facts = Facts(
            architecture=", ".join(model.checkpoint.config.get("architectures") or ()),
            attention=backend.attention,
            own=own,
            tower_words=words,
            tower=tower,
            has_features="features" in backend.capabilities,
            generation=backend.generation,
            encoder_problem=problem,
        )
        return Loaded(backend, encoder, facts)

    def _encoder_of(self, model: Model, backend: TransformersBackend) -> tuple[ZeroShotEncoder | None, bool, str, str]:
        """The encoder, whether it is the model's own, in words, and the hash of the tower that it classifies with."""
        if model.encoder is None:
            return None, False, "", ""
        from emt_plugin.encoders import ZeroShotEncoder, check_tower

        checkpoint = model.encoder.checkpoint
        # The encoder's text tower is asked for captions, its vision tower only where it is not the model's.
        encoder = ZeroShotEncoder(checkpoint, model.device, model.dtype, self._store)
        check = check_tower(backend.model, encoder.model, (backend.checkpoint.stored_dtype(), checkpoint.stored_dtype()))
        if check.whole and backend.vision is not None:
            # The tower inside the model is the encoder: one copy in memory, and one forward for both.
            encoder.take_tower(backend.vision)
        return encoder, check.own, check.words, encoder.vision.fingerprint


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    return find(spec.source, spec.shown, spec.name, spec.revision, adapter=spec.adapter)
