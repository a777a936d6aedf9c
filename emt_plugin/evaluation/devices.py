"""Which device a model runs on, decided without torch, so that a run from the store alone never imports it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from emt_plugin.errors import CouldNotRun
from emt_plugin.workers.devices import visible_gpus


def default_device() -> str:
    """The GPU that is visible and that torch was built for, else the CPU."""
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    built = _torch_version()
    # A build for AMD's GPUs says so; nvidia-smi knows nothing of them.
    return "cuda" if "+rocm" in built or ("+cpu" not in built and visible_gpus()) else "cpu"


def refuse_missing_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        CouldNotRun: there is no such device.
    """
    import torch

    cuda, _, index = device.partition(":")
    missing = (cuda == "cuda" and int(index or 0) >= torch.cuda.device_count()) or (
        device == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise CouldNotRun(
            f"there is no device {device} here that torch can use; leave --emt-device out, or name one that this machine has"
        )


def device_name(device: str) -> str:
    """A device by a name that all workers on it share: ``cuda`` alone means another GPU in every worker."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return f"cuda-{visible.split(',')[0]}" if device == "cuda" else device


def device_memory(device: str) -> int:
    """Bytes of memory that a device has."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "+cpu"
