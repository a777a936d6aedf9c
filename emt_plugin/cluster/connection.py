"""The Ray cluster that a run uses: one that exists, or one on this machine."""

from __future__ import annotations

import logging
import math
import os
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from emt_plugin.addresses import place_of
from emt_plugin.errors import CouldNotRun
from emt_plugin.settings import Cluster

REACH_SECONDS = 10.0


def connected(cluster: Cluster) -> tuple[Any, bool]:
    """The module ``ray``, connected, and whether that was done now.

    Raises:
        CouldNotRun: there is no cluster at the address, or it cannot be used from here.
    """
    if not cluster.address:
        # A cluster that a gate starts on its own machine calls nobody.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    _refuse_out_of_reach(cluster)
    local: dict[str, Any] = {} if cluster.address else {"include_dashboard": False}
    try:
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
            **local,
        )
    except Exception as error:  # Ray raises errors of many kinds here.
        raise CouldNotRun(_why_not(cluster, error)) from None
    return ray, True


def count_of_actors(ray: Any, cluster: Cluster, gpus: float) -> int:
    """How many actors are started: as many as were asked for, else one for each share of the GPUs, else one a node."""
    if cluster.actors:
        return cluster.actors
    if gpus:
        return max(1, sum(math.floor(float(node["Resources"].get("GPU", 0)) / gpus) for node in _alive(ray)))
    return max(1, len(_alive(ray)))


def has_gpus(ray: Any) -> bool:
    """Whether any node has a GPU."""
    return any(node["Resources"].get("GPU") for node in _alive(ray))


def shown(address: str) -> str:
    """An address without anything secret that it may carry."""
    return place_of(address) if "//" in address else address.rpartition("@")[2]


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _refuse_out_of_reach(cluster: Cluster) -> None:
    """Ray itself tries for minutes.

    Raises:
        CouldNotRun: nothing listens there.
    """
    if not cluster.address or cluster.address in ("auto", "local"):
        return
    try:
        found = urlsplit(cluster.address if "//" in cluster.address else f"//{cluster.address}")
        host, port = found.hostname, found.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise CouldNotRun(
            f"the Ray address {shown(cluster.address)} is none; set RAY_ADDRESS to such as 10.0.0.1:6379 or ray://10.0.0.1:10001"
        )
    try:
        with closing(socket.create_connection((host, port), REACH_SECONDS)):
            return
    except OSError as error:
        raise CouldNotRun(
            f"there is no Ray cluster at {shown(cluster.address)} ({error.strerror or error}); "
            f"start it, or unset RAY_ADDRESS to start one on this machine"
        ) from None


def _why_not(cluster: Cluster, error: Exception) -> str:
    text = " ".join(str(error).split())
    where = f"the Ray cluster at {shown(cluster.address)}" if cluster.address else "a Ray cluster on this machine"
    if "ersion mismatch" in text:
        return f"{where} has another Python or Ray than this machine: {text[:200]}; use the same on both"
    if (cluster.address or "").startswith("ray://") and isinstance(error, ConnectionError):
        return f"{where} does not answer ({text[:200]}); where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    return f"{where} cannot be used ({type(error).__name__}: {text[:200]})"
