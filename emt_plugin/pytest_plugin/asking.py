"""A test that uses the ``emt`` fixture asks for the gate, as an option does: what its use sets going in any suite."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.pytest_plugin.home import home_of
from emt_plugin.runs.folder import FOLDER_KEY, Claim, new_run_id

CONTROLLER = "emt-controller"
WOULD_BE: pytest.StashKey[Path] = pytest.StashKey()


def tell_worker(node: Any) -> None:
    """Tell a worker of pytest-xdist where a run would write; it is made by the first worker that has such a test."""
    config = node.config
    if WOULD_BE not in config.stash:
        config.stash[WOULD_BE] = home_of(config) / (config.getini("emt_reports") or "reports") / new_run_id(datetime.now(UTC))
    node.workerinput.setdefault(FOLDER_KEY, str(config.stash[WOULD_BE]))


def in_worker(config: pytest.Config) -> None:
    """Show the controlling process, which collects nothing, that there are such tests: by the run's folder."""
    folder = getattr(config, "workerinput", {}).get(FOLDER_KEY)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)


def was_asked(config: pytest.Config) -> bool:
    """Whether a worker has shown that there are such tests."""
    return WOULD_BE in config.stash and config.stash[WOULD_BE].exists()


def start(config: pytest.Config, by_fixture: bool = False) -> Any:
    """The controller, registered now.

    Args:
        config: the session's.
        by_fixture: nothing but a test that uses the ``emt`` fixture asked for it.

    Raises:
        pytest.UsageError: a setting means nothing, or the run could not be recorded.
    """
    from emt_plugin.pytest_plugin.activation import settings_of
    from emt_plugin.pytest_plugin.controller import Controller

    made = config.stash.get(WOULD_BE, None)
    controller = Controller(config, settings_of(config), Claim(made) if made else None, by_fixture)
    config.pluginmanager.register(controller, CONTROLLER)
    return controller
