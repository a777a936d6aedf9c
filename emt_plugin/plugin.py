"""The pytest plugin: options and hooks, nothing else. Imports pytest and the standard library only."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from emt_plugin.pytest_plugin.activation import is_active, only_tells, settings_of, uses

pytest_plugins = ["emt_plugin.pytest_plugin.fixtures"]
PAIR_FIXTURES = ("emt_model", "emt_image_set")
GATE_FIXTURE = "_emt_gate"
THROUGHPUT_FIXTURE = "emt_throughput"
CHECKPOINT_FIXTURE = "emt_checkpoint"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register ``--emt-*`` and the ini settings; the short aliases belong to the suite's own conftest."""
    # How help texts are written: lower case, no full stop, the default in brackets.
    add = parser.getgroup("emt", "forgetting of multimodal LLMs").addoption
    # The destination is written out because a suite's conftest may share it with an alias.
    add("--emt-model", action="append", dest="emt_model", metavar="NAME",
        help="model: catalog name, folder, hub id, or endpoint:NAME; repeatable [llava-mini]")  # fmt: skip
    add("--emt-max-cost", metavar="USD", help="ask no more of models behind endpoints than this costs [any amount]")
    add("--emt-image-set", action="append", dest="emt_image_set", metavar="NAME",
        help="image set: catalog name, parquet file, folder or hub id; repeatable [the model's own list]")  # fmt: skip
    add("--emt-encoder", metavar="NAME", help="the models' vision encoder: folder or hub id [the catalog's]")
    add("--emt-reference", metavar="MODEL",
        help="gate against this model on the same images, or against a linear probe on the vision features with `probe` "
             "[the model's own encoder; `probe` where the catalog says that its tower has none]")  # fmt: skip
    add("--emt-checkpoint", action="append", dest="emt_checkpoint", metavar="GLOB",
        help="gate each of these checkpoints of one model against that model, in order of training; repeatable")  # fmt: skip
    add("--emt-trained-on", action="append", metavar="NAME[,NAME]",
        help="image sets that the checkpoints were trained on [what they say]")  # fmt: skip
    add("--emt-revision", metavar="REV", help="hub revision of the models [the default branch]")
    add("--emt-catalog", metavar="FILE", help="TOML file with more [models.*] and [image_sets.*]")
    add(
        "--emt-scorer",
        action="append",
        metavar="NAME[,NAME]",
        help="scorers: answer, likelihood, text-embedding, judge or a plugin's; the first gates, the others are shown [answer]",
    )
    add("--emt-label-score", metavar="RULE", help="likelihood of a label: sum or mean over its tokens [sum]")
    add("--emt-calibrate", action="store_true", help="likelihood of a label less its likelihood under a mean-grey image")
    add(
        "--emt-probe-images",
        metavar="N",
        help="training images of each class that linear probes are fitted on, beside likelihood; 0 for no probe [50]",
    )
    add("--emt-limit", metavar="N", help="images of each set, the first in the fixed order [1000]")
    add("--emt-half", metavar="1|2", help="one half of them only; `emt mend` chooses by half 1 and promises on half 2 [both]")
    add(
        "--emt-early-stop",
        action="store_true",
        help="stop at the first image that settles the verdict, by a test that holds whenever one stops [all images]",
    )
    add("--emt-tolerance", metavar="X", help="largest loss that passes, a fraction; sets accepted losses aside [0.05]")
    add("--emt-tolerances", metavar="FILE", help="tolerances and accepted losses [benchmarks/tolerances.toml]")
    add("--emt-update-tolerances", action="store_true", help="write this run's losses as accepted losses")
    add("--emt-batch-size", metavar="N", help="images in one forward at most [as many as fit]")
    add("--emt-dtype", metavar="DTYPE", help="float32, bfloat16 or float16 [float32 on the CPU, the checkpoint's on a GPU]")
    add("--emt-device", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps [the GPU that is visible, else cpu]")
    add("--emt-attention", metavar="NAME", help="implementation of attention: sdpa, eager, ... [the model's own choice]")
    add(
        "--emt-generation",
        metavar="HOW",
        help="greedy answers by neutral settings, or with `checkpoint` by the penalties and stops that it was saved with [own]",
    )
    add("--emt-memory", metavar="BYTES", help="bytes that models on one device may take, such as 20GB [all that it has]")
    add(
        "--emt-store",
        metavar="MODE",
        help="use what was computed before, compute it anew with `refresh`, or keep nothing with `off` [use]",
    )
    add("--emt-store-dir", metavar="DIR", help="where computed results are kept [.emt_store]")
    add("--emt-store-size", metavar="BYTES", help="what stored vision features may take, the longest unused go first [20GB]")
    add("--emt-throughput", action="store_true", help="time the suite instead of gating; needs pytest-benchmark, and no -n")
    add(
        "--emt-image",
        action="append",
        dest="emt_image",
        metavar="HASH",
        help="only the image whose hash begins like this, and what was made of it; repeatable [the first --emt-limit]",
    )
    add("--emt-repeat", metavar="N", help="measure every image N times, never from the store, and report what flips [1]")
    add("--emt-shard", metavar="K/N", help="the K-th of N parts of the pairs; `emt merge` joins the parts [all pairs]")
    add("--emt-compare", metavar="RUN", help="show what changed since this earlier run, image by image: its folder")
    add(
        "--emt-history",
        metavar="FILE",
        help="append a line for each pair to this file, and show the trend since last night and the pinned release",
    )
    add("--emt-report", metavar="MODE", help="report.html as one file with `single`, or with `dir` assets beside it [single]")
    add("--emt-reports", metavar="DIR", help="folder in which each run gets its own folder [reports]")
    parser.addini("emt", "gate in every run of this project, without any option", type="bool", default=False)
    parser.addini("emt_model", "models, when no --emt-model is given", type="args", default=[])
    parser.addini("emt_image_set", "image sets, when no --emt-image-set is given", type="args", default=[])
    parser.addini("emt_limit", "images of each set, when no --emt-limit is given", default="")
    parser.addini("emt_tolerances", "tolerances file, when no --emt-tolerances is given", default="")
    parser.addini("emt_store_dir", "where computed results are kept, when no --emt-store-dir is given", default="")
    parser.addini("emt_reports", "reports folder, when no --emt-reports is given", default="")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check every option before anything is collected, and start the controller."""
    if not is_active(config):
        return
    settings = settings_of(config)
    if config.option.emt_throughput:
        from emt_plugin.pytest_plugin.options import check_throughput

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
    from emt_plugin.pytest_plugin.workers.devices import visible_gpus

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
        from emt_plugin.pytest_plugin.link import model_by_model

        for index, item in zip(ours, model_by_model([items[index] for index in ours]), strict=True):
            items[index] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send what was measured along with the report, and tell a user's mistake in one sentence."""
    report = yield
    if uses(item, GATE_FIXTURE):
        from emt_plugin.pytest_plugin.link import attach

        attach(item, call, report)
    return report
