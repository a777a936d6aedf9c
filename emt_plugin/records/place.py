"""Where a process of a run writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPlace:
    """A run's folder and the name of the process that writes there.

    Attributes:
        folder: the run's folder; made on first use.
        worker: the process: ``main``, or a worker's name.
    """

    folder: Path
    worker: str
