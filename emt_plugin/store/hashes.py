"""Hashes of files by content; those of large files are remembered by size, time of change and inode."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from emt_plugin.store.store import Store

BLOCK = 1 << 22
# A file changed this recently may change again within one tick of the file system's clock.
SETTLED_SECONDS = 2.0


def file_hash(path: Path, store: Store | None = None) -> str:
    """SHA-256 of a file's content, in hex.

    Args:
        path: the file.
        store: where hashes are remembered; None to read the file.

    Raises:
        OSError: it cannot be read.
    """
    if store is None:
        return _read(path)
    shelf = store.shelf("files", {"hash": "sha256"})
    before = os.stat(path)
    known = shelf.get(_identity(before))
    if known:
        return str(known.value)
    digest = _read(path)
    after = os.stat(path)
    if _identity(before) == _identity(after) and time.time() - after.st_mtime > SETTLED_SECONDS:
        shelf.put({_identity(after): digest})
    return digest


def content_hash(paths: Iterable[Path], store: Store | None = None) -> str:
    """SHA-256 over the names and contents of some files, in order of name."""
    digest = sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(f"{path.name}\0{file_hash(path, store)}\n".encode())
    return digest.hexdigest()


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _read(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
