"""The pytest plugin: options and hooks, nothing else. Imports pytest and the standard library only."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from emt_plugin.options.listed import OPTIONS
from emt_plugin.pytest_plugin.activation import is_active, only_tells, settings_of, uses

pytest_plugins = ["emt_plugin.pytest_plugin.fixtures"]
PAIR_FIXTURES = ("emt_model", "emt_image_set")
GATE_FIXTURE = "_emt_gate"
THROUGHPUT_FIXTURE = "emt_throughput"
CHECKPOINT_FIXTURE = "emt_checkpoint"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register ``--emt-*`` and the ini settings; the short aliases belong to the suite's own conftest."""
    for option in OPTIONS:
        parser.getgroup(*option.group).addoption(option.flag, **option.argument)
        if option.ini:
            text = f"{option.about}, when no {option.flag} is given"
            parser.addini(option.dest, text, type=option.ini_type, default={"args": [], "bool": False}.get(option.ini_type, ""))
    parser.addini("emt", "gate in every run of this project, without any option", type="bool", default=False)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check every option before anything is collected, and start the controller."""
    if not is_active(config):
        return
    settings = settings_of(config)
    if config.option.emt_throughput:
        from emt_plugin.pytest_plugin.given import check_throughput

        check_throughput(config)
        return
    if hasattr(config, "workerinput") or only_tells(config):
        return
    from emt_plugin.pytest_plugin.asking import start

    start(config)
    if config.pluginmanager.hasplugin("xdist"):
        from emt_plugin.pytest_plugin.workers.xdist_hooks import XdistHooks

        config.pluginmanager.register(XdistHooks(settings), "emt-xdist")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Using the ``emt`` fixture is asking for the gate, in a suite that asks for it in no other way."""
    config = session.config
    if only_tells(config) or not any(uses(item, GATE_FIXTURE) for item in session.items):
        return
    from emt_plugin.pytest_plugin import asking

    if hasattr(config, "workerinput"):
        asking.in_worker(config)
    elif not config.pluginmanager.hasplugin(asking.CONTROLLER):
        asking.start(config, by_fixture=True).pytest_collection_finish(session)


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where a run would write."""
    from emt_plugin.pytest_plugin import asking

    if not node.config.pluginmanager.hasplugin(asking.CONTROLLER):
        asking.tell_worker(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """What a worker collected holds tests that use the ``emt`` fixture."""
    from emt_plugin.pytest_plugin import asking

    config = node.config
    if not config.pluginmanager.hasplugin(asking.CONTROLLER) and asking.was_asked(config):
        asking.start(config, by_fixture=True).pytest_xdist_node_collection_finished(node, ids)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` is one worker for each GPU, where there are any; asked before anything is configured."""
    if not is_active(config):
        return None
    from emt_plugin.session.devices import visible_gpus

    return len(visible_gpus()) or None


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Generator[None, object, object]:
    """Timings, trajectories or pairs, whichever was asked for: the others make no item, so none is skipped."""
    made = yield
    if not isinstance(made, list):
        return made
    option = collector.config.option
    timed, along = bool(getattr(option, "emt_throughput", False)), bool(getattr(option, "emt_checkpoint", None))

    def wanted(item: pytest.Item) -> bool:
        if uses(item, *PAIR_FIXTURES):
            return not timed and uses(item, CHECKPOINT_FIXTURE) == along
        return timed or not uses(item, THROUGHPUT_FIXTURE)

    return [item for item in made if wanted(item)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each model x image-set pair."""
    if set(PAIR_FIXTURES) <= set(metafunc.fixturenames):
        settings = settings_of(metafunc.config)
        ids = [key.id for key in settings.keys]
        metafunc.parametrize(PAIR_FIXTURES, settings.pairs, indirect=True, ids=ids, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a model's pairs together: pytest has just grouped by image set too, which would load models in turns."""
    ours = [index for index, item in enumerate(items) if uses(item, *PAIR_FIXTURES)]
    if ours:
        from emt_plugin.pytest_plugin.report_payload import model_by_model

        for index, item in zip(ours, model_by_model([items[index] for index in ours]), strict=True):
            items[index] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send what was measured along with the report, and tell a user's mistake in one sentence."""
    report = yield
    if uses(item, GATE_FIXTURE):
        from emt_plugin.pytest_plugin.report_payload import attach

        attach(item, call, report)
    return report
