"""What passes between the process that measures and an actor; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emt_plugin.catalog import Catalog, ModelSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.settings import Compute


@dataclass(frozen=True)
class Order:
    """A model that an actor is to hold.

    Attributes:
        token: what it is called by.
        spec: the model.
        base: what it is a checkpoint of.
        catalog: where its encoder is looked up.
        compute: how it is run.
        with_encoder: whether its encoder is loaded too.
        encoder_gates: whether an encoder that cannot be had is an error.
        key: all that determines its observations, as the process that measures sees it.
        encoder_key: the same of its encoder.
    """

    token: str
    spec: ModelSpec
    base: ModelSpec | None
    catalog: Catalog
    compute: Compute
    with_encoder: bool
    encoder_gates: bool
    key: Mapping[str, Any]
    encoder_key: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """What an actor is asked of a model that it holds.

    Attributes:
        name: one of ``CALLS``.
        arguments: positional.
    """

    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What an actor answered.

    Attributes:
        value: what it found.
        problem: why it could not, one sentence; empty where it could.
        said: what a person who waits should know.
    """

    value: Any = None
    problem: str = ""
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hello:
    """What an actor tells of itself.

    Attributes:
        node: address of its machine.
        pid: of its process.
        version: of this package there.
    """

    node: str
    pid: int
    version: str


@dataclass(frozen=True)
class Surroundings:
    """What an actor takes over from the process that measures.

    Attributes:
        folder: where relative names are meant from.
        environment: variables.
        threads: of the CPU; None for as many as Ray gives it.
    """

    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None


def same_or_refused(node: str, name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Refuse a node on which a model is not the one that results are kept for.

    Raises:
        CouldNotRun: weights, packages or settings differ.
    """
    differing = [key for key in here if here[key] != there.get(key)]
    if not differing:
        return
    key = differing[0]
    mine, theirs = here[key], there.get(key)
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        key = next(inner for inner in {**mine, **theirs} if mine.get(inner) != theirs.get(inner))
        mine, theirs = mine.get(key), theirs.get(key)
    raise CouldNotRun(
        f"node {node} has another {key.replace('_', ' ')} for {name} than this machine ({_short(theirs)} and {_short(mine)}); "
        f"give all nodes the same files and packages"
    )


def _short(value: Any) -> str:
    return str(value)[:24]
