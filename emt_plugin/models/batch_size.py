"""How many images go into one forward: found while running, halved when memory runs out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIRST = 8
MOST = 64
# The share of free memory that a larger batch may be expected to take.
SHARE = 0.6
# Another size is worth it where an image takes at most this much of the time.
WORTH = 0.97


@dataclass(frozen=True)
class Memory:
    """Bytes of a device.

    Attributes:
        used: what this process has now.
        peak: the most that it has had.
        free: what it could still have.
    """

    used: int
    peak: int
    free: int


class BatchSize:
    """Doubles after a full batch that fitted, as long as the next is expected to fit; halves after one that did not.

    Args:
        given: a size that the user chose, which is never exceeded; None to find one.
        memory: reads the device's memory; None where it cannot be read, and the size does not grow.
        timed: look for the size at which an image takes least time, up first and then down. On a CPU that depends on
            its caches. In half precision, where rounding depends on the batch, sizes must not depend on the clock.
    """

    def __init__(
        self, given: int | None = None, memory: Callable[[], Memory | None] = lambda: None, timed: bool = False
    ) -> None:
        self.size = given or FIRST
        self._most = given or MOST
        self._memory = memory
        self._before = memory()
        self._seconds: dict[int, float] | None = {} if timed and given is None else None

    def fitted(self, images: int, seconds: float = 0.0) -> None:
        """A batch of so many images has run in so many seconds."""
        if images < self.size:
            return
        if self._seconds is None:
            self._grow(images)
        elif self.size not in self._seconds:
            self._seconds[self.size] = seconds / images
            self._seek(images)

    def _seek(self, images: int) -> None:
        """Go on to a size that was not tried as long as that pays, and then stay at the best."""
        assert self._seconds is not None
        known = self._seconds
        best = min(known, key=lambda size: known[size])
        if best == max(known):
            self._grow(images)
        if self.size in known:
            smallest, *larger = sorted(known)
            pays = best == smallest and (not larger or known[best] <= WORTH * known[larger[0]])
            self.size = best // 2 if pays and best > 1 else best

    def _grow(self, images: int) -> None:
        now = self._memory()
        if now is None or self._before is None:
            return
        # A peak from before the first batch makes this too large, which errs on the safe side.
        needed = max(0, now.peak - self._before.used) / images
        if 2 * self.size * needed <= SHARE * now.free:
            self.size = min(2 * self.size, self._most)

    def failed(self, images: int) -> bool:
        """A batch of so many images did not fit; whether a smaller one can be tried."""
        if images <= 1:
            return False
        self.size = self._most = images // 2
        return True


def cpu_memory() -> Memory | None:
    """Resident memory, and what the machine has available for each worker; None off Linux."""
    try:
        status = _kilobytes(Path("/proc/self/status"))
        available = _kilobytes(Path("/proc/meminfo"))["MemAvailable"]
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        return Memory(status["VmRSS"] * 1024, status["VmHWM"] * 1024, available * 1024 // workers)
    except (OSError, KeyError):
        return None


def cuda_memory(device: str) -> Memory:
    """What torch has on a GPU, and what it could still have."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - used
    return Memory(used, torch.cuda.max_memory_allocated(device), free + unused)


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines ``name: number kB`` of a file under /proc."""
    found = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0])
    return found
