"""Files that are either the old one or the new one, whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def synced(folder: Path, files: bool = True) -> None:
    """Have the system write a folder, and its files, to the disk before anything that relies on it is done."""
    for path in (*((path for path in folder.iterdir() if path.is_file()) if files else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write ``content``, whole or piece by piece, to a temporary file beside ``path``, force it to disk, and put it in place.

    Raises:
        OSError: the folder cannot be written; nothing is left behind under the final name.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a report is for others to read.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
