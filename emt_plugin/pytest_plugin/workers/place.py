"""Where a process of a run writes, known to the controller and told to the workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_plugin.records import RunPlace
from emt_plugin.runs.folder import FOLDER_KEY

PLACE: pytest.StashKey[RunPlace] = pytest.StashKey()


def place_of(config: pytest.Config) -> RunPlace | None:
    """The run's folder and this process's name; None in a session that keeps no record."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        folder = workerinput.get(FOLDER_KEY)
        return RunPlace(Path(folder), workerinput["workerid"]) if folder else None
    return config.stash.get(PLACE, None)
