"""Backends by name: what comes with the package, and what others bring by entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from emt_plugin.models.backend import Backend, Request

GROUP = "pytest_emt.backends"
BackendFactory = Callable[[Request], Backend]
TRANSFORMERS = "transformers"
ENDPOINT = "endpoint"
OURS = (TRANSFORMERS, ENDPOINT)


class BackendError(ValueError):
    """A backend that a user has to name otherwise or to install anew; the message says how."""


def known_backends() -> list[str]:
    """Names of all backends, ours first."""
    return [*OURS, *(name for name in _foreign() if name not in OURS)]


def backend_factory(name: str) -> BackendFactory:
    """What makes the backend of a name for a model.

    Raises:
        BackendError: there is none of that name, or it cannot be imported.
    """
    if name == TRANSFORMERS:
        from emt_plugin.models.checkpoint_backend import CheckpointBackend

        return CheckpointBackend
    if name == ENDPOINT:
        if find_spec("openai") is None:
            raise BackendError(
                "a model behind an endpoint needs the client of OpenAI-compatible endpoints: pip install 'pytest-emt[endpoint]'"
            )
        from emt_plugin.models.endpoint.backend import EndpointBackend

        return EndpointBackend
    found = _foreign().get(name)
    if found is None:
        raise BackendError(f"unknown backend '{name}'; known: {', '.join(known_backends())}")
    try:
        factory: BackendFactory = found.load()
    except Exception as error:  # Whatever a stranger's module leads to.
        raise BackendError(
            f"the backend '{name}' ({found.value}) cannot be imported ({type(error).__name__}: {error})"
        ) from None
    return factory


def provider(name: str) -> str:
    """Which package brings a backend, with its version: a newer one may observe otherwise."""
    found = None if name in OURS else _foreign().get(name)
    return f"{found.dist.name} {found.dist.version}" if found and found.dist else ""


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
