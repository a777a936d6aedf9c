"""Models on a Ray cluster: the process that measures hands batches to actors, and alone writes store and record."""

from emt_plugin.cluster.engine import RayEngine

__all__ = ["RayEngine"]
