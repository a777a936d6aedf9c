"""Where a process of a run writes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


def new_run_id(now: datetime) -> str:
    """A name for a run that begins now: sorted by time, and unlike that of another that begins in the same second."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunPlace:
    """A run's folder and the name of the process that writes there.

    Attributes:
        folder: the run's folder; made on first use.
        worker: the process: ``main``, or a worker's name.
    """

    folder: Path
    worker: str
