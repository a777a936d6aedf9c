"""Models that are loaded and asked on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import Catalog, ModelSpec, Question
from emt_plugin.cluster.connection import connected, count_of_actors, has_gpus, shown
from emt_plugin.cluster.orders import Call, Order, Surroundings
from emt_plugin.cluster.pool import Job, Pool
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.engine import Engine, Wanted
from emt_plugin.evaluation.loaded import Facts, Loaded
from emt_plugin.evaluation.tasks import Done, Task
from emt_plugin.models.backend import BATCH, Backend
from emt_plugin.models.devices import default_device
from emt_plugin.scoring import Observation, Want
from emt_plugin.settings import Cluster, Compute
from emt_plugin.store import Store

if TYPE_CHECKING:
    from PIL import Image

# Which of this process's variables an actor takes over: where models come from, and nothing secret.
TAKEN_OVER = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE")


class RayEngine(Engine):
    """Loads and asks models in actors of a Ray cluster; what is behind an endpoint is asked from here.

    Args:
        cluster: which, and what an actor takes.
        catalog: where an actor looks up encoders.
        say: told what a person who waits should know.
        encoder_gates: see ``ModelLoader``.
        base: see ``ModelLoader``.
    """

    leases = False

    def __init__(
        self,
        cluster: Cluster,
        catalog: Catalog,
        say: Callable[[str], None],
        encoder_gates: Callable[[ModelSpec], bool],
        base: ModelSpec | None = None,
    ) -> None:
        self._cluster = cluster
        self._catalog = catalog
        self._say = say
        self._encoder_gates = encoder_gates
        self._base = base
        self._compute = Compute()
        self._pool: Pool | None = None
        self._tokens = 0
        # A cluster that somebody has connected this process to already stays connected.
        self._ours = False

    def placed(self, compute: Compute, store: Store) -> Compute:
        """With the device of the actors, asked of the cluster once and then remembered, and batches of one size."""
        device = compute.device or self._device(store)
        if device == "cpu" and self._cluster.gpus:
            raise CouldNotRun("--emt-actor-gpus gives actors a GPU and --emt-device cpu none; leave one of the two out")
        self._compute = replace(compute, device=device, batch_size=compute.batch_size or BATCH)
        return self._compute

    def load(self, wanted: Wanted, here: Callable[[], Loaded]) -> Loaded:
        """See ``Engine``."""
        if wanted.spec.endpoint:
            return here()
        self._tokens += 1
        order = Order(
            token=f"{wanted.spec.id} {self._tokens}",
            spec=wanted.spec,
            base=self._base,
            catalog=self._catalog,
            compute=self._compute,
            with_encoder=wanted.has_encoder,
            encoder_gates=self._encoder_gates(wanted.spec),
            key=wanted.key,
            encoder_key=wanted.encoder_key,
        )
        pool = self.pool
        pool.hold(order)
        held = Held(pool, order.token)
        facts, has_encoder = held.ask("told")
        backend = RemoteBackend(held, wanted.backend, facts, self._compute.batch_size or BATCH)
        return RemoteLoaded(backend, RemoteEncoder(held) if has_encoder else None, facts, 2 * pool.width)

    @cached_property
    def pool(self) -> Pool:
        """The actors, started when first needed.

        Raises:
            CouldNotRun: the cluster cannot be used.
        """
        ray = self._connected()
        gpus = self._gpus()
        count = count_of_actors(ray, self._cluster, gpus)
        self._pool = Pool(
            ray,
            count,
            {"num_cpus": self._cluster.cpus, **({"num_gpus": gpus} if gpus else {})},
            Surroundings(os.getcwd(), {name: os.environ[name] for name in TAKEN_OVER if name in os.environ}),
            self._cluster.wait_seconds,
            self._say,
        )
        where = f"at {shown(self._cluster.address)}" if self._cluster.address else "on this machine"
        self._say(f"models run in {count} actor{'s' * (count != 1)} of the Ray cluster {where}")
        return self._pool

    def close(self) -> None:
        """End the actors, and the connection if it was made here."""
        if self._pool:
            self._pool.close()
            self._pool = None
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

    def _connected(self) -> Any:
        ray, is_new = connected(self._cluster)
        self._ours |= is_new
        return ray

    def _gpus(self) -> float:
        on_gpu = (self._compute.device or "").startswith("cuda")
        return (self._cluster.gpus or 1.0) if on_gpu else 0.0

    def _device(self, store: Store) -> str:
        if self._cluster.gpus:
            return "cuda"
        if not self._cluster.address:
            return default_device(store)
        shelf = store.shelf("device", {"ray": shown(self._cluster.address)})
        known = shelf.get("default")
        if known is None:
            found = "cuda" if has_gpus(self._connected()) else "cpu"
            shelf.put({"default": found})
            return found
        return str(known.value)


@dataclass(frozen=True)
class Held:
    """A model that the actors of a pool hold."""

    pool: Pool
    token: str

    def ask(self, name: str, *arguments: Any) -> Any:
        """Ask one actor, and wait.

        Raises:
            CouldNotRun: see ``Pool.result``.
        """
        return self.pool.result(self.hand(name, *arguments))

    def hand(self, name: str, *arguments: Any) -> Job:
        """Ask one actor."""
        return self.pool.submit(self.token, Call(name, arguments))


class RemoteTask:
    """A task that an actor does."""

    def __init__(self, pool: Pool, job: Job) -> None:
        self._pool = pool
        self._job = job

    def is_done(self) -> bool:
        """See ``Pending``."""
        self._pool.look()
        return self._job.is_done

    def result(self) -> Done:
        """See ``Pending``."""
        done: Done = self._pool.result(self._job)
        return done

    def drop(self) -> None:
        """See ``Pending``."""
        self._pool.drop(self._job)


class RemoteBackend(Backend):
    """A model that actors hold; who it is is known here."""

    def __init__(self, held: Held, known: Backend, facts: Facts, batch_size: int) -> None:
        self.device = known.device
        self.dtype = known.dtype
        self.held = held
        self.is_anew = False
        self._known = known
        self._facts = facts
        self._size = batch_size

    def identity(self) -> Mapping[str, Any]:
        """As this process sees it; an actor that sees another refuses."""
        return self._known.identity()

    @property
    def capabilities(self) -> frozenset[Want]:
        """As an actor found them."""
        return frozenset(self._facts.capabilities)

    @property
    def batch_size(self) -> int:
        """The same for every batch."""
        return self._size

    def render(self, prompt: str) -> str:
        """See ``Backend``."""
        return str(self.held.ask("render", prompt))

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """In one actor; many batches are better asked of ``RemoteLoaded``."""
        task = Task(tuple(images), question, ((frozenset(want), tuple(range(len(images)))),), anew=self.is_anew)
        done: Done = self.held.ask("see", task)
        return [done.observations[place] for place in range(len(images))]

    def in_force(self) -> Mapping[str, Any]:
        """As one actor tells, and how many there are."""
        return {**self.held.ask("in_force"), "engine": "ray", "actors": len(self.held.pool.nodes)}

    @contextmanager
    def anew(self) -> Iterator[None]:
        """See ``Backend``."""
        self.is_anew = True
        try:
            yield
        finally:
            self.is_anew = False

    def close(self) -> None:
        """The actors let go of it."""
        self.held.pool.free(self.held.token)


class RemoteEncoder:
    """An encoder that actors hold beside its model."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def classify(self, images: Sequence[Image.Image], captions: Sequence[str]) -> list[int]:
        """Index of the nearest caption for every image."""
        places = tuple(range(len(images)))
        done: Done = self._held.ask("see", Task(tuple(images), Question("", (), ()), (), tuple(captions), places))
        return [done.classes[place] for place in places]

    def nearest_label(self, answers: Sequence[str], labels: Sequence[str]) -> list[int]:
        """For each answer the label whose text embedding is nearest."""
        return [int(found) for found in self._held.ask("nearest", list(answers), list(labels))]


@dataclass(frozen=True)
class RemoteLoaded(Loaded):
    """A model that actors hold."""

    def ask(self, task: Task) -> RemoteTask:
        """See ``Loaded``."""
        held = self._remote.held
        return RemoteTask(held.pool, held.hand("see", replace(task, anew=self._remote.is_anew)))

    def work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See ``Loaded``."""
        return self._remote.held.ask("work", function, arguments)

    @property
    def _remote(self) -> RemoteBackend:
        assert isinstance(self.backend, RemoteBackend)
        return self.backend
