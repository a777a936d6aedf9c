"""A multimodal LLM with its encoder, loaded when something has to be computed and not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import Catalog, ModelSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.encoder_choice import BASE, chosen
from emt_plugin.evaluation.engine import Engine, ThisProcess, Wanted
from emt_plugin.evaluation.leases import Lease, take
from emt_plugin.evaluation.loaded import Facts, Loaded
from emt_plugin.models.backend import ELSEWHERE, Backend, Request
from emt_plugin.models.checkpoint import Checkpoint, find
from emt_plugin.models.checkpoint_backend import checkpoint_identity
from emt_plugin.models.devices import default_device, device_memory, device_name, refuse_missing_device
from emt_plugin.models.registry import BackendError, backend_factory, provider
from emt_plugin.settings import Compute
from emt_plugin.store import Shelf, Store, key_hash

if TYPE_CHECKING:
    from emt_plugin.encoders import ZeroShotEncoder

ON_TRUST = "it runs elsewhere, where its tower cannot be looked at: the encoder is taken on trust"


@dataclass(frozen=True)
class EncoderSource:
    """Where a model's encoder is, and how it was found."""

    checkpoint: Checkpoint
    id: str
    found_by: str


class Room:
    """The memory of all that is loaded together: one lease, taken before the first part is loaded.

    Two workers that each held a part would wait for each other forever.
    """

    def __init__(self, take: Callable[[], Lease | None]) -> None:
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
        backend: what runs it.
        encoder: its encoder, None where none is known.
        key: all that determines its observations, but for what it is asked.
        encoder_key: the same of its encoder; empty without one.
        room: the memory that it shares with what is loaded beside it.
        note: why there is no encoder although one is known.
    """

    spec: ModelSpec
    backend: Backend
    encoder: EncoderSource | None
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
        if known and not self.backend.is_dated():
            return str(known.value)
        text = self.loaded().backend.render(prompt)
        self._shelf.put({name: text})
        return text

    def free(self) -> None:
        """Give its memory back."""
        if self._loaded is not None:
            self._loaded.backend.close()
            self._loaded = None
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
        engine: where models run.
    """

    def __init__(
        self,
        catalog: Catalog,
        compute: Compute,
        store: Store,
        say: Callable[[str], None],
        encoder_gates: Callable[[ModelSpec], bool] = lambda spec: spec.reference == "encoder",
        base: ModelSpec | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or ThisProcess()
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
        backend = self._backend(spec)
        encoder, note = self._encoder(spec, backend)

        def room() -> Lease | None:
            if not self._engine.leases:
                return None
            return self._lease(spec, backend, encoder, self._backend(reference) if reference else None)

        model = self._model(spec, backend, encoder, Room(room))
        model.note = note
        return model

    def find_reference(self, spec: ModelSpec, room: Room) -> Model:
        """A model that another is compared with, in the other's room and without an encoder of its own.

        Raises:
            CouldNotRun: see ``find``.
        """
        return self._model(spec, self._backend(spec), None, room)

    def _backend(self, spec: ModelSpec) -> Backend:
        try:
            factory = backend_factory(spec.backend)
        except BackendError as error:
            raise CouldNotRun(str(error)) from None
        return factory(Request(spec, self._placed, self._store, self._say, self._base))

    @cached_property
    def _placed(self) -> Compute:
        return self._engine.placed(self._compute, self._store)

    def _model(self, spec: ModelSpec, backend: Backend, encoder: EncoderSource | None, room: Room) -> Model:
        key = {**backend.identity(), "backend": spec.backend, "provider": provider(spec.backend)}
        encoder_key = self._encoder_identity(encoder.checkpoint, backend) if encoder else {}
        shelf = self._store.shelf("facts", {"model": key, "encoder": encoder_key}, {"model": spec.id})

        def load(model: Model) -> Loaded:
            wanted = Wanted(spec, backend, encoder is not None, key, encoder_key)
            return self._engine.load(wanted, partial(self._load, model))

        return Model(spec, backend, encoder, key, encoder_key, room, load, shelf)

    def _encoder_identity(self, checkpoint: Checkpoint, backend: Backend) -> dict[str, Any]:
        device, dtype = self._encoder_place(backend)
        return checkpoint_identity(checkpoint, device, dtype, self._placed, self._store)

    def _encoder_place(self, backend: Backend) -> tuple[str, str]:
        """Device and dtype of an encoder: its model's, or this machine's own for a model that is elsewhere."""
        if backend.device != ELSEWHERE:
            return backend.device, backend.dtype
        return self._placed.device or default_device(self._store), self._placed.dtype or "float32"

    def _encoder(self, spec: ModelSpec, backend: Backend) -> tuple[EncoderSource | None, str]:
        """The model's encoder, and why there is none although one is known."""
        # By the catalog, no encoder has the tower of a model that a probe is the reference of, whatever its shape.
        files = backend.sees_with()
        alike = self._catalog.encoders_of_tower(files.tower) if files and spec.reference != "probe" else ()
        if not spec.encoder and not (files and alike):
            return None, ""
        try:
            source = spec.encoder or (chosen(files, alike) if files else "")
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

    def _lease(
        self, spec: ModelSpec, backend: Backend, encoder: EncoderSource | None, reference: Backend | None
    ) -> Lease | None:
        """Memory for all that is loaded together; None where nothing of it takes any here."""
        device, dtype = self._encoder_place(backend)
        size = sum(part.bytes_needed() for part in (backend, reference) if part)
        size += encoder.checkpoint.bytes_needed(dtype) if encoder else 0
        if not size:
            return None
        refuse_missing_device(device)
        return take(device_name(device), size, self._compute.memory or device_memory(device), spec.id, self._say)

    def _load(self, model: Model) -> Loaded:
        backend = model.backend
        problem = ""
        try:
            encoder, own, words, tower = self._encoder_of(model, backend)
        except CouldNotRun as error:
            if self._encoder_gates(model.spec):
                raise
            encoder, own, words, tower, problem = None, False, "", "", str(error)
        told = backend.facts()
        facts = Facts(
            architecture=told.architecture,
            attention=told.attention,
            capabilities=tuple(sorted(backend.capabilities)),
            own=own,
            tower_words=words,
            tower=tower,
            generation=told.generation,
            encoder_problem=problem,
        )
        return Loaded(backend, encoder, facts)

    def _encoder_of(self, model: Model, backend: Backend) -> tuple[ZeroShotEncoder | None, bool, str, str]:
        """The encoder, whether it is the model's own, in words, and the hash of the tower that it classifies with."""
        if model.encoder is None:
            return None, False, "", ""
        from emt_plugin.encoders import ZeroShotEncoder, check_tower

        checkpoint = model.encoder.checkpoint
        # The encoder's text tower is asked for captions, its vision tower only where it is not the model's.
        encoder = ZeroShotEncoder(checkpoint, *self._encoder_place(backend), self._store)
        inside = backend.inside()
        if inside is None:
            return encoder, False, ON_TRUST, encoder.vision.fingerprint
        check = check_tower(inside.model, encoder.model, (inside.stored_dtype, checkpoint.stored_dtype()))
        if check.whole and inside.vision is not None:
            # The tower inside the model is the encoder: one copy in memory, and one forward for both.
            encoder.take_tower(inside.vision)
        return encoder, check.own, check.words, encoder.vision.fingerprint
