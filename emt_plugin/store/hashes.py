"""Hashes of files by content; those of large files are remembered by what no copying tool can restore."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path

from emt_plugin.store.store import Store

BLOCK = 1 << 22
# A file changed this recently may change again within one tick of the file system's clock.
SETTLED_SECONDS = 2.0
# File systems on which every change moves a file's ctime, which no program can set. Others may make one up.
KEEP_CTIME = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "f2fs",
        "tmpfs",
        "overlay",
        "nfs",
        "nfs4",
        "lustre",
        "gpfs",
        "ceph",
        "beegfs",
    }
)
MACHINE_ID = Path("/etc/machine-id")
MOUNTS = Path("/proc/self/mountinfo")


def file_hash(path: Path, store: Store | None = None) -> str:
    """SHA-256 of a file's content, in hex.

    A remembered hash counts only where the file's size, both its times, inode and device, on this host, are those that it
    was taken with. The time of the last change of any kind (ctime) is among them: ``rsync --inplace -t`` and ``touch -r``
    restore the other one. Where the file system is not known to keep it, the file is read.

    Args:
        path: the file.
        store: where hashes are remembered; None to read the file.

    Raises:
        OSError: it cannot be read.
    """
    if store is None:
        return _read(path)
    shelf = store.shelf("files", {"hash": "sha256", "identity": "host, device, inode, size, mtime, ctime"})
    before = _identity(path)
    known = shelf.get(before.key) if before.sure else None
    if known:
        return str(known.value)
    digest = _read(path)
    after = _identity(path)
    if after.sure and after.key == before.key and time.time() - after.changed > SETTLED_SECONDS:
        shelf.put({after.key: digest})
    return digest


def content_hash(paths: Iterable[Path], store: Store | None = None) -> str:
    """SHA-256 over the names and contents of some files, in order of name."""
    digest = sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(f"{path.name}\0{file_hash(path, store)}\n".encode())
    return digest.hexdigest()


class _Identity:
    """A file as it is now.

    Attributes:
        key: what its hash is remembered by.
        changed: when it last changed in any way, seconds since the epoch.
        sure: whether every change of its content changes the key.
    """

    def __init__(self, found: os.stat_result) -> None:
        self.key = f"{_host()}:{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
        self.changed = max(found.st_mtime, found.st_ctime)
        self.sure = sys.platform == "linux" and _file_system(found.st_dev) in KEEP_CTIME


def _identity(path: Path) -> _Identity:
    # Opening a file on a network disk asks its server anew.
    with path.open("rb") as file:
        return _Identity(os.fstat(file.fileno()))


@cache
def _host() -> str:
    """The host: a store may be shared by several, and their devices and inodes have the same numbers."""
    try:
        machine = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return sha256(f"{platform.node()}:{machine}".encode()).hexdigest()[:16]


@cache
def _file_system(device: int) -> str:
    """The kind of file system of a device; empty where that cannot be told."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mounted, _, described = line.partition(" - ")
        if mounted.split()[2:3] == [wanted]:
            return described.split(" ", 1)[0]
    return ""


def _read(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
