"""Actors and what they are asked: handed out, taken back from actors that died, and given up where that goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emt_plugin import __version__
from emt_plugin.cluster.holder import Holder
from emt_plugin.cluster.orders import Call, Order, Reply, Surroundings
from emt_plugin.errors import CouldNotRun, Crashed

# Under way in an actor at once: the next is there when one is done.
IN_FLIGHT = 2
# Actors that one call may take with it.
MOST_DEATHS = 2
LOOK_SECONDS = 1.0


@dataclass(eq=False)
class Job:
    """One call, until its result is there.

    Attributes:
        token: of the model that is asked.
        call: what is asked.
        name: the model, for messages.
        deaths: actors that died while they did it.
        value: what came of it.
        error: why nothing did.
        is_done: whether there is a value or an error.
        is_dropped: whether nobody waits for it.
    """

    token: str
    call: Call
    name: str
    deaths: int = 0
    value: Any = None
    error: CouldNotRun | None = None
    is_done: bool = False
    is_dropped: bool = False

    def finish(self, value: Any = None, error: CouldNotRun | None = None) -> None:
        """What came of it is there."""
        self.value, self.error, self.is_done = value, error, True


@dataclass(eq=False)
class Actor:
    """One actor.

    Attributes:
        handle: Ray's.
        hello: its first word, until it has come.
        is_ready: whether it runs.
        node: where it runs.
        holds: tokens of the models that it was told of.
        under_way: the jobs that it has, in the order in which it does them.
    """

    handle: Any
    hello: Any
    is_ready: bool = False
    node: str = ""
    holds: set[str] = field(default_factory=set)
    under_way: deque[Job] = field(default_factory=deque)


class Pool:
    """Some actors on a connected cluster.

    Args:
        ray: the module, connected.
        count: how many actors are wanted; fewer will do.
        resources: what each takes, as Ray calls it.
        surroundings: what each takes over from this process.
        wait_seconds: how long there may be no actor at all.
        say: told what a person who waits should know.
    """

    def __init__(
        self,
        ray: Any,
        count: int,
        resources: dict[str, float],
        surroundings: Surroundings,
        wait_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._ray = ray
        self._resources = resources
        self._wait_seconds = wait_seconds
        self._say = say
        self._said: set[str] = set()
        self._surroundings = surroundings
        self._class = ray.remote(Holder)
        self._orders: dict[str, tuple[Order, Any]] = {}
        self._queue: deque[Job] = deque()
        self._refs: dict[Any, tuple[Actor, Job]] = {}
        self._actors = [self._started() for _ in range(count)]
        self._alone_since = time.monotonic()

    @property
    def width(self) -> int:
        """Calls that keep all actors busy."""
        return IN_FLIGHT * max(1, len(self._actors))

    @property
    def nodes(self) -> list[str]:
        """Machines of the actors that run."""
        return sorted(actor.node for actor in self._actors if actor.is_ready)

    def hold(self, order: Order) -> None:
        """Have a model held by whichever actor is asked of it."""
        self._orders[order.token] = (order, self._ray.put(order))

    def free(self, token: str) -> None:
        """Have it held no more; what was asked of it and not begun is dropped."""
        self._orders.pop(token, None)
        for job in [*self._queue, *(job for _, job in self._refs.values())]:
            if job.token == token:
                self.drop(job)
        for actor in self._actors:
            if token in actor.holds:
                actor.holds.discard(token)
                actor.handle.free.remote(token)

    def submit(self, token: str, call: Call) -> Job:
        """Ask something of a model that is held."""
        job = Job(token, call, self._orders[token][0].spec.id)
        self._queue.append(job)
        self._dispatch()
        return job

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more: it is not begun, and not begun again."""
        job.is_dropped = True
        if job in self._queue:
            self._queue.remove(job)

    def look(self) -> None:
        """Take what has come, without waiting."""
        self._take(0.0)
        self._dispatch()

    def result(self, job: Job) -> Any:
        """What came of a job; waits for it.

        Raises:
            CouldNotRun: it could not be done, or there was no actor in time.
            Crashed: actors died of it.
        """
        while not job.is_done:
            self._dispatch()
            self._take(LOOK_SECONDS)
            self._refuse_to_wait_longer()
        if job.error:
            raise job.error
        return job.value

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors:
            self._ray.kill(actor.handle, no_restart=True)
        self._actors = []

    def _started(self) -> Actor:
        handle = self._class.options(
            max_restarts=0, max_task_retries=0, max_concurrency=1, scheduling_strategy="SPREAD", **self._resources
        ).remote(self._surroundings)
        return Actor(handle, handle.hello.remote())

    def _dispatch(self) -> None:
        """Hand out what waits, to those who have least."""
        while self._queue:
            free = [actor for actor in self._actors if actor.is_ready and len(actor.under_way) < IN_FLIGHT]
            if not free:
                return
            self._hand(min(free, key=lambda actor: len(actor.under_way)), self._queue.popleft())

    def _hand(self, actor: Actor, job: Job) -> None:
        if job.token not in actor.holds:
            actor.handle.hold.remote(self._orders[job.token][1])
            actor.holds.add(job.token)
        actor.under_way.append(job)
        self._refs[actor.handle.do.remote(job.token, job.call)] = (actor, job)

    def _take(self, seconds: float) -> None:
        """Take what has come; waits for the first so long at most."""
        hellos = {actor.hello: actor for actor in self._actors if not actor.is_ready}
        waiting = [*self._refs, *hellos]
        if not waiting:
            if not self._actors:
                self._actors.append(self._started())
            return
        came, left = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if came and left:
            more, _ = self._ray.wait(left, num_returns=len(left), timeout=0)
            came += more
        for ref in came:
            if ref in hellos:
                self._greet(hellos[ref])
            elif ref in self._refs:
                self._finish(ref)

    def _greet(self, actor: Actor) -> None:
        if actor not in self._actors:
            return
        try:
            hello = self._ray.get(actor.hello)
        except self._deaths() as error:
            self._bury(actor)
            self._refuse_without_package(error)
            return
        except Exception as error:  # What an actor that cannot be made leads Ray to.
            self._refuse_without_package(error)
            raise
        if hello.version != __version__:
            raise CouldNotRun(
                f"node {hello.node} has pytest-emt {hello.version} and this machine has {__version__}; install the same on all"
            )
        actor.is_ready, actor.node = True, hello.node

    def _finish(self, ref: Any) -> None:
        actor, job = self._refs[ref]
        try:
            reply: Reply = self._ray.get(ref)
        except self._deaths():
            self._bury(actor)
            return
        del self._refs[ref]
        actor.under_way.remove(job)
        for line in reply.said:
            if line not in self._said:
                self._said.add(line)
                self._say(line)
        job.finish(reply.value, CouldNotRun(reply.problem) if reply.problem else None)

    def _deaths(self) -> tuple[type[BaseException], ...]:
        """What Ray raises where an actor, its node or what it made is gone."""
        found = self._ray.exceptions
        return (
            found.RayActorError,
            found.WorkerCrashedError,
            found.NodeDiedError,
            found.ObjectLostError,
            found.OutOfMemoryError,
            found.LocalRayletDiedError,
        )

    def _bury(self, actor: Actor) -> None:
        """An actor is gone: what it had is asked of others, and another is started in its place."""
        if actor not in self._actors:
            return
        self._actors.remove(actor)
        # One that is only out of reach must not come back and do it too.
        self._ray.kill(actor.handle, no_restart=True)
        self._refs = {ref: held for ref, held in self._refs.items() if held[0] is not actor}
        jobs = list(actor.under_way)
        if jobs:
            # It does them in their order, so the first was under way.
            jobs[0].deaths += 1
        for job in reversed(jobs):
            if job.deaths >= MOST_DEATHS:
                job.finish(error=Crashed(f"{MOST_DEATHS} actors died while they worked on the same images of {job.name}"))
            elif not job.is_dropped:
                self._queue.appendleft(job)
        if actor.is_ready:
            self._say(f"an actor on {actor.node} is gone; what it had is asked of another")
            if not any(other.is_ready for other in self._actors):
                self._alone_since = time.monotonic()
            self._actors.append(self._started())

    def _refuse_to_wait_longer(self) -> None:
        """Refuse to wait for a first actor without end.

        Raises:
            CouldNotRun: there was none in time.
        """
        if any(actor.is_ready for actor in self._actors):
            self._alone_since = time.monotonic()
            return
        if time.monotonic() - self._alone_since < self._wait_seconds:
            return
        wanted = ", ".join(f"{value:g} {name.removeprefix('num_')}" for name, value in self._resources.items() if value)
        raise CouldNotRun(
            f"the Ray cluster had no room for an actor with {wanted or 'no resources'} in {self._wait_seconds:g} s; "
            f"ask for less with --emt-actor-gpus or --emt-actor-cpus, or wait longer with --emt-actor-wait"
        )

    def _refuse_without_package(self, error: BaseException) -> None:
        """Refuse a cluster whose nodes cannot import this package.

        Raises:
            CouldNotRun: they cannot.
        """
        text = str(error)
        if "No module named" in text or "failed to be imported" in text or "ModuleNotFoundError" in text:
            raise CouldNotRun(
                f"the nodes of the Ray cluster cannot import pytest-emt {__version__}: install it, with its dependencies, "
                f"in the Python of every node"
            ) from None
