"""Build hook: the wheel carries the bundled zoo and the benchmarks inside the package."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {"fixtures/mini": "emt_plugin/fixtures/mini", "benchmarks": "emt_plugin/benchmarks"}


class CarryZoo(BuildHookInterface):
    """Adds the folders to a real wheel; an editable install finds them in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling."""
        if version != "editable":
            build_data["force_include"].update(CARRIED)
