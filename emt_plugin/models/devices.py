"""Which device a model runs on; what torch said of it is remembered, so that a run from the store never imports it."""

from __future__ import annotations

import gc
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store


def default_device(store: Store) -> str:
    """The GPU that torch can use, else the CPU; asked of torch once and then remembered for this machine."""
    marks = {path: os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")}
    key = {
        "host": platform.node(),
        "platform": f"{sys.platform} {platform.machine()}",
        "torch": _torch_version(),
        "visible": [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")],
        "marks": marks,
    }
    shelf = store.shelf("device", key)
    known = shelf.get("default")
    if known:
        return str(known.value)
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    shelf.put({"default": device})
    return device


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


def free_memory(device: str) -> None:
    """Give back what nothing refers to any more, to the device too."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


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
        return "none"
