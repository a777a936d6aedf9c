"""What pytest was given becomes Settings; whatever is wrong with it is a usage error."""

from __future__ import annotations

import pytest

from emt_plugin.errors import UsageError
from emt_plugin.pytest_plugin.home import home_of
from emt_plugin.session.asked import Asked
from emt_plugin.session.options import build_settings as settings_from
from emt_plugin.settings import Settings


def build_settings(config: pytest.Config) -> Settings:
    """Settings from options > ini > catalog.

    Raises:
        pytest.UsageError: a name that is not known, or a value that means nothing.
    """
    try:
        return settings_from(Asked(config.option, home_of(config), config.invocation_params.dir, config.getini))
    except UsageError as error:
        raise pytest.UsageError(f"emt: {error}") from None


def check_throughput(config: pytest.Config) -> None:
    """Refuse to time what cannot be timed.

    Raises:
        pytest.UsageError: pytest-benchmark is not there, or workers would share the machine.
    """
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("emt: --emt-throughput needs the machine for itself; leave -n out")
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("emt: --emt-throughput needs pytest-benchmark: pip install 'pytest-emt[throughput]'")
