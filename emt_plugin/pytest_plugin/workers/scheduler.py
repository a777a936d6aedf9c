"""Which worker runs which test: a model's pairs stay together, unless workers would stand idle.

Imported only with pytest-xdist at hand. It builds on a class of xdist that is not part of its public interface, so
it is used with the tested version alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

from emt_plugin.pytest_plugin.report_payload import pair_id_of


class ModelScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Loads each model once for each group of its pairs.

    With at least as many models as workers a group is one model. With fewer, a model's pairs are dealt to as many
    groups as keep all workers busy. A test that has no pair is a group of its own.
    """

    def __init__(self, config: pytest.Config, log: Producer | None, models: Mapping[str, str]) -> None:
        super().__init__(config, log)
        self._models = models
        self._groups: dict[str, str] = {}

    def schedule(self) -> None:
        """See xdist; the groups are made when the first collection is complete."""
        if self.collection is None and self.registered_collections:
            first = next(iter(self.registered_collections.values()))
            self._groups = groups(first, self._models, len(self.nodes))
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """See xdist, which would run the test that crashed again and again: here it counts as done."""
        workload: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        crashed = next((nodeid for unit in workload.values() for nodeid, done in unit.items() if not done), None)
        if crashed is None:
            return None
        for scope, unit in workload.items():
            if crashed in unit:
                unit[crashed] = True
            if not all(unit.values()):
                self.workqueue[scope] = unit
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed


def groups(nodeids: list[str], models: Mapping[str, str], workers: int) -> dict[str, str]:
    """The group of every test that belongs to a model.

    Args:
        nodeids: the collection, in order.
        models: model by pair id, the text in a node id's brackets.
        workers: how many there are.
    """
    by_model: dict[str, list[str]] = {}
    for nodeid in nodeids:
        model = models.get(pair_id_of(nodeid, models) or "")
        if model is not None:
            by_model.setdefault(model, []).append(nodeid)
    shards = -(-workers // len(by_model)) if by_model else 1
    return {
        nodeid: f"{model}#{position % shards}" for model, tests in by_model.items() for position, nodeid in enumerate(tests)
    }
