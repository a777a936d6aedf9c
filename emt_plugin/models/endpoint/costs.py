"""What asking costs, and how much of it a run may spend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from emt_plugin.catalog.endpoints import EndpointSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.endpoint.client import Reply
from emt_plugin.records import Cost
from emt_plugin.store import Store

PER = 1_000_000


class Meter:
    """Counts what one model cost."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec
        self._lock = Lock()
        self.total = Cost(0, 0, 0, 0, 0.0 if priced(spec) else None)

    def add(self, reply: Reply) -> None:
        """Count a reply with the tries that it took."""
        with self._lock:
            self.total = self.total + Cost(
                1 + reply.retries, reply.retries, reply.tokens_in or 0, reply.tokens_out or 0, price(self._spec, reply)
            )


class Purse:
    """What one process may spend in a run; its models share it.

    Args:
        most: US dollars; None for any amount.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._spent = self._reserved = self._dearest = 0.0
        self._lock = Lock()

    @contextmanager
    def paying(self, spec: EndpointSpec) -> Iterator[list[Reply]]:
        """A context to ask in; the reply goes into the list that it gives.

        What is under way is reckoned as the dearest reply so far.

        Raises:
            CouldNotRun: the money would not do for another question, or the endpoint does not say what one costs.
        """
        with self._lock:
            reserved = self._dearest
            if self._most is not None and self._spent + self._reserved + reserved > self._most:
                raise CouldNotRun(
                    f"the answers so far cost ${self._spent:.4f}, and another may exceed what --emt-max-cost leaves to this "
                    f"process, ${self._most:.4f}; raise it to go on"
                )
            self._reserved += reserved
        replies: list[Reply] = []
        try:
            yield replies
        finally:
            with self._lock:
                self._reserved -= reserved
                for cost in (price(spec, reply) for reply in replies):
                    self._spent += cost or 0.0
                    self._dearest = max(self._dearest, cost or 0.0)
        if self._most is not None and any(price(spec, reply) is None for reply in replies if not reply.withheld):
            raise CouldNotRun(
                f"the endpoint at {spec.place} does not report tokens, so --emt-max-cost cannot be kept; leave it out"
            )


_purses: WeakKeyDictionary[Store, Purse] = WeakKeyDictionary()


def purse_of(store: Store, most: float | None) -> Purse:
    """The purse of all models that share a store; workers share what a run may spend evenly."""
    if store not in _purses:
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        _purses[store] = Purse(None if most is None else most / workers)
    return _purses[store]


def priced(spec: EndpointSpec) -> bool:
    """Whether the catalog says what a model costs."""
    return spec.price_in is not None and spec.price_out is not None


def price(spec: EndpointSpec, reply: Reply) -> float | None:
    """US dollars for a reply; None where its price or its tokens are not known."""
    if spec.price_in is None or spec.price_out is None or reply.tokens_in is None or reply.tokens_out is None:
        return None
    return (spec.price_in * reply.tokens_in + spec.price_out * reply.tokens_out) / PER
