"""Where the models of a run are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emt_plugin.evaluation.engine import Engine
    from emt_plugin.settings import Settings


def engine_of(settings: Settings, say: Callable[[str], None]) -> Engine | None:
    """Where models run; None for this process."""
    if settings.cluster is None:
        return None
    from emt_plugin.cluster import RayEngine

    base = settings.reference if settings.trajectories else None
    return RayEngine(settings.cluster, settings.catalog, say, lambda spec: settings.reference_kind(spec) == "encoder", base)
