"""What runs in an actor: it holds models and does what it is asked with them, one thing at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_plugin import __version__
from emt_plugin.cluster.orders import Call, Hello, Order, Reply, Surroundings, same_or_refused
from emt_plugin.errors import CouldNotRun

if TYPE_CHECKING:
    from emt_plugin.evaluation.engine import Engine
    from emt_plugin.evaluation.models import Model


class Holder:
    """An actor's state. Nothing is written where it runs; what it computes goes back to the process that measures."""

    def __init__(self, surroundings: Surroundings) -> None:
        # Before anything is imported that reads them.
        os.environ.update(surroundings.environment)
        with suppress(OSError):
            os.chdir(surroundings.folder)
        self._threads = surroundings.threads
        self._orders: dict[str, Order] = {}
        self._models: dict[str, Model] = {}
        self._said: list[str] = []

    def hello(self) -> Hello:
        """Where it is."""
        import ray

        return Hello(str(ray.util.get_node_ip_address()), os.getpid(), __version__)  # type: ignore[no-untyped-call]

    def hold(self, order: Order) -> None:
        """Take an order; what it asks for is loaded when it is first needed."""
        self._orders[order.token] = order

    def free(self, token: str) -> None:
        """Let go of a model."""
        self._orders.pop(token, None)
        model = self._models.pop(token, None)
        if model:
            model.free()

    def do(self, token: str, call: Call) -> Reply:
        """Do what is asked."""
        self._said = []
        try:
            value = CALLS[call.name](self._model(token), *call.arguments)
            return Reply(value, said=tuple(self._said))
        except CouldNotRun as error:
            return Reply(problem=str(error), said=tuple(self._said))

    def _model(self, token: str) -> Model:
        if token not in self._models:
            self._models[token] = self._found(self._orders[token])
        return self._models[token]

    def _found(self, order: Order) -> Model:
        import torch

        from emt_plugin.evaluation.models import ModelLoader, Room
        from emt_plugin.store import Store

        if self._threads:
            torch.set_num_threads(self._threads)
        loader = ModelLoader(
            order.catalog,
            order.compute,
            Store(Path(), "off"),
            self._said.append,
            lambda spec: order.encoder_gates,
            order.base,
            _in_actor(),
        )
        model = loader.find(order.spec) if order.with_encoder else loader.find_reference(order.spec, Room(lambda: None))
        node = self.hello().node
        same_or_refused(node, order.spec.id, order.key, model.key)
        same_or_refused(node, f"the encoder of {order.spec.id}", order.encoder_key, model.encoder_key)
        return model


def _in_actor() -> Engine:
    from emt_plugin.evaluation.engine import ThisProcess

    class InActor(ThisProcess):
        # What there is room for on a node is for Ray to say.
        leases = False

    return InActor()


def _see(model: Model, task: Any) -> Any:
    return model.loaded().ask(task).result()


def _nearest(model: Model, answers: Any, labels: Any) -> Any:
    encoder = model.loaded().encoder
    assert encoder is not None
    return encoder.nearest_label(answers, labels)


def _render(model: Model, prompt: str) -> str:
    return model.loaded().backend.render(prompt)


def _told(model: Model) -> Any:
    return model.loaded().facts, model.loaded().encoder is not None


def _in_force(model: Model) -> Any:
    return dict(model.loaded().backend.in_force())


def _work(model: Model, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


CALLS: dict[str, Callable[..., Any]] = {
    "see": _see,
    "nearest": _nearest,
    "render": _render,
    "told": _told,
    "in_force": _in_force,
    "work": _work,
}
