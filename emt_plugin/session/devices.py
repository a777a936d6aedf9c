"""Which device each worker gets. Reads the environment and the driver's own tool; imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

THREADS = "OMP_NUM_THREADS"
DEVICES = "CUDA_VISIBLE_DEVICES"


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as the driver names them; the caller's own list wins."""
    if DEVICES in environment:
        return [device.strip() for device in environment[DEVICES].split(",") if device.strip() not in {"", "-1"}]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listed = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_environment(
    index: int, workers: int, gpus: Sequence[str], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What a worker's environment gets before it starts: one GPU in turn, or a share of the cores.

    Args:
        index: the worker's number, from 0; a replacement inherits the environment of the worker it replaces.
        workers: how many there are.
        gpus: from ``visible_gpus``.
        environment: what the user set; a thread count that is there stays.
    """
    dealt = {DEVICES: gpus[index % len(gpus)]} if gpus else {}
    if THREADS not in environment:
        dealt[THREADS] = str(max(1, cores() // max(1, workers)))
    return dealt
