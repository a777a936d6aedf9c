"""A run's own folder: its name, and that one process makes it and none that wrote nothing leaves it. Standard library only."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# What a worker of pytest-xdist finds it by among what it is told.
FOLDER_KEY = "emt_folder"


@dataclass(frozen=True)
class Claim:
    """A folder that this process alone has made.

    Attributes:
        folder: it.
        made: the folders that were made for it, the outermost first.
    """

    folder: Path
    made: tuple[Path, ...] = ()

    def leave(self) -> None:
        """Remove what was made, as far as nothing was put into it."""
        with suppress(OSError):
            for folder in (self.folder, *reversed(self.made)):
                folder.rmdir()


def new_run_id(now: datetime) -> str:
    """A name for a run that begins now: sorted by time, and unlike that of another that begins in the same second."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(8)}"


def claimed(reports: Path, now: datetime) -> Claim:
    """A new folder for a run that begins now.

    Raises:
        OSError: it cannot be made.
    """
    missing = tuple(folder for folder in (*reversed(reports.parents), reports) if not folder.exists())
    reports.mkdir(parents=True, exist_ok=True)
    while True:
        folder = reports / new_run_id(now)
        with suppress(FileExistsError):
            folder.mkdir()
            return Claim(folder, missing)
