"""The controller's side of pytest-xdist: scheduler, devices, and what workers are told. Registered with xdist only."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from emt_plugin.pytest_plugin.workers.place import PLACE
from emt_plugin.runs.folder import FOLDER_KEY
from emt_plugin.session.devices import visible_gpus, worker_environment
from emt_plugin.settings import Settings


class XdistHooks:
    """Hooks of pytest-xdist."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Deal devices and cores before the workers start; a replacement inherits its predecessor's."""
        # With a device named by number every worker must see all of them.
        gpus = visible_gpus() if self._settings.compute.device in (None, "cuda") else []
        for index, spec in enumerate(specs):
            spec.env = {**worker_environment(index, len(specs), gpus), **(spec.env or {})}
        pairs = len(self._settings.pairs)
        if len(specs) > pairs > 0:
            reporter = config.pluginmanager.getplugin("terminalreporter")
            if reporter:
                reporter.write_line(f"emt: {pairs} pairs keep at most {pairs} of {len(specs)} workers busy")

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the run writes."""
        place = node.config.stash.get(PLACE, None)
        if place:
            node.workerinput[FOLDER_KEY] = str(place.folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Our scheduler, unless the user chose one or this xdist is not the tested one."""
        import xdist

        from emt_plugin.pytest_plugin.workers import TESTED_XDIST

        if config.getoption("dist") not in {"load", "no"}:
            return None
        if not xdist.__version__.startswith(TESTED_XDIST):
            warnings.warn(
                pytest.PytestWarning(
                    f"emt: pytest-xdist {xdist.__version__} is not the tested {TESTED_XDIST}*: its own scheduler is used, "
                    f"and a model may be loaded more than once"
                ),
                stacklevel=1,
            )
            return None
        from emt_plugin.pytest_plugin.workers.scheduler import ModelScheduling

        return ModelScheduling(config, log, {key.id: f"{key.model}@{key.checkpoint}" for key in self._settings.keys})
