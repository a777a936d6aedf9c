"""What the store holds, and how it is made smaller: what was not used for longest goes first."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from emt_plugin.store.store import KEY_FILE, LAYOUT

TRASH = ".gone-"
DAMAGED = "damaged"


@dataclass(frozen=True)
class ShelfInfo:
    """One shelf.

    Attributes:
        path: its folder.
        kind: what its rows are.
        about: names for people, of the run that made it.
        size: bytes.
        last_used: seconds since the epoch.
    """

    path: Path
    kind: str
    about: Mapping[str, Any]
    size: int
    last_used: float


class Pruned(NamedTuple):
    """What went."""

    shelves: int
    size: int


def shelves(folder: Path) -> list[ShelfInfo]:
    """All shelves, those not used for longest first."""
    return sorted(_found(folder), key=lambda shelf: shelf.last_used)


def prune(
    folder: Path,
    older_than: float | None = None,
    most_bytes: int | None = None,
    kinds: Collection[str] | None = None,
    spared: Path | None = None,
) -> Pruned:
    """Remove shelves, each as a whole.

    Args:
        folder: the store's.
        older_than: remove what was not used for so many seconds.
        most_bytes: then remove the longest unused until no more than this is left.
        kinds: of these kinds only.
        spared: a shelf that stays, whatever it takes.
    """
    for leftover in (folder / LAYOUT).glob(f"*/{TRASH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = [shelf for shelf in shelves(folder) if kinds is None or shelf.kind in kinds]
    total = sum(shelf.size for shelf in found)
    count = size = 0
    for shelf in found:
        is_old = older_than is not None and time.time() - shelf.last_used > older_than
        is_over = most_bytes is not None and total - size > most_bytes
        if shelf.path != spared and (is_old or is_over):
            _remove(shelf.path)
            count, size = count + 1, size + shelf.size
    return Pruned(count, size)


def _found(folder: Path) -> Iterator[ShelfInfo]:
    for path in (folder / LAYOUT).glob("*/*"):
        # Another process may be pruning too.
        with suppress(OSError):
            if path.is_dir() and not path.name.startswith(TRASH):
                yield _info(path)


def _info(path: Path) -> ShelfInfo:
    size = sum(file.stat().st_size for file in path.iterdir())
    try:
        facts = json.loads((path / KEY_FILE).read_text(encoding="utf-8"))
        return ShelfInfo(path, facts["kind"], facts["about"], size, (path / KEY_FILE).stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return ShelfInfo(path, DAMAGED, {}, size, path.stat().st_mtime)


def _remove(path: Path) -> None:
    """Take a shelf out of sight in one step, then delete it: no reader meets half of it."""
    gone = path.with_name(f"{TRASH}{secrets.token_hex(4)}")
    with suppress(OSError):
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
