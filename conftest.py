"""Registers the plugin in a checkout, and adds the short aliases that only a suite of its own may claim."""

from __future__ import annotations

import pytest

pytest_plugins = ["emt_plugin.plugin", "fixtures.models", "fixtures.image_sets"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--model``, ``--dataset`` and ``--checkpoint`` for ``--emt-model``, ``--emt-image-set`` and ``--emt-checkpoint``."""
    group = parser.getgroup("emt-what", "forgetting: what is gated, and against what")
    group.addoption("--model", action="append", dest="emt_model", metavar="NAME", help="short for --emt-model")
    group.addoption("--dataset", action="append", dest="emt_image_set", metavar="NAME", help="short for --emt-image-set")
    group.addoption("--checkpoint", action="append", dest="emt_checkpoint", metavar="GLOB", help="short for --emt-checkpoint")
