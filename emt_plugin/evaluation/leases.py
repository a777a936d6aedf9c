"""Memory leases: a worker takes its share of a device before it loads a model, and waits while there is none.

The ledger is a small JSON file for each device, guarded by a file lock, so it serves workers of one run and of
several. Entries of processes that are gone are struck out.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from emt_plugin.errors import CouldNotRun
from emt_plugin.store.byte_sizes import words

POLL_SECONDS = 0.5
# Activations, cache and allocator slack beside the weights.
HEADROOM = 1.2


@dataclass
class Lease:
    """A share of a device's memory, given back by ``release`` or with the process."""

    ledger: Path
    size: int
    token: str
    _released: bool = field(default=False, repr=False)

    def release(self) -> None:
        """Give the share back; a second call does nothing."""
        if self._released:
            return
        self._released = True
        with _locked(self.ledger) as entries:
            entries.pop(self.token, None)


def take(
    device: str,
    size: int,
    budget: int,
    name: str,
    say: Callable[[str], None],
    folder: Path | None = None,
    wait_seconds: float = 24 * 3600,
) -> Lease:
    """Lease memory on a device; waits until it is free, and says so once.

    Args:
        device: what is leased, the same word in every worker that shares it.
        size: bytes of the weights.
        budget: bytes that all leases of the device may sum to.
        name: the model, for messages.
        say: told once if there is a wait.
        folder: where the ledgers are (default: one for each user in the temporary folder).
        wait_seconds: how long to wait at most.

    Raises:
        CouldNotRun: one copy never fits, or none was free in time.
    """
    needed = int(size * HEADROOM)
    if needed > budget:
        raise CouldNotRun(
            f"{name} needs {words(needed)}, and {device} has {words(budget)} for models; "
            f"use a larger device or a smaller --emt-dtype, or raise --emt-memory"
        )
    ledger = ledger_path(device, folder)
    token = f"{os.getpid()}:{time.monotonic_ns()}"
    told = False
    until = time.monotonic() + wait_seconds
    while True:
        with _locked(ledger) as entries:
            if sum(entries.values()) + needed <= budget:
                entries[token] = needed
                return Lease(ledger, needed, token)
            leased = sum(entries.values())
        if not told:
            taken = f"{words(leased)} of {words(budget)} are taken"
            say(f"{name} waits for memory on {device}: it needs {words(needed)}, and {taken}")
            told = True
        if time.monotonic() > until:
            raise CouldNotRun(f"{name} waited {wait_seconds:.0f} s for {words(needed)} on {device} and got none")
        time.sleep(POLL_SECONDS)


def ledger_path(device: str, folder: Path | None = None) -> Path:
    """The ledger of a device."""
    folder = folder or Path(tempfile.gettempdir()) / f"emt-leases-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{device.replace('/', '-').replace(':', '-')}.json"


class _locked:
    """The ledger's entries under its lock; written back on leaving."""

    def __init__(self, ledger: Path) -> None:
        from filelock import FileLock

        self._ledger = ledger
        self._lock = FileLock(f"{ledger}.lock")
        self._entries: dict[str, int] = {}

    def __enter__(self) -> dict[str, int]:
        self._lock.acquire()
        entries: dict[str, int] = {}
        with suppress(OSError, ValueError):
            entries = json.loads(self._ledger.read_text(encoding="utf-8"))
        self._entries = {token: size for token, size in entries.items() if _alive(int(token.partition(":")[0]))}
        return self._entries

    def __exit__(self, *_: object) -> None:
        try:
            temporary = self._ledger.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(self._entries), encoding="utf-8")
            os.replace(temporary, self._ledger)
        finally:
            self._lock.release()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
