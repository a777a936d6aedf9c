"""Whether this session was asked to gate, and by which settings. Imports pytest and the standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from emt_plugin.settings import Settings

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
# Options with which pytest runs no test.
ONLY_TELLS = (
    "help", "version", "collectonly", "showfixtures", "show_fixtures_per_test", "setuponly", "setupplan", "markers",
    "cacheshow",
)  # fmt: skip


def only_tells(config: pytest.Config) -> bool:
    """Whether the user asked pytest to tell something and to run nothing."""
    return any(getattr(config.option, name, False) for name in ONLY_TELLS)


def uses(item: pytest.Item, *fixtures: str) -> bool:
    """Whether an item asks for all of these fixtures, by itself or through others."""
    return set(fixtures) <= set(getattr(item, "fixturenames", ()))


def settings_of(config: pytest.Config) -> Settings:
    """The session's settings, built on first use, so that a foreign suite pays nothing."""
    if SETTINGS not in config.stash:
        from emt_plugin.pytest_plugin.given import build_settings

        config.stash[SETTINGS] = build_settings(config)
    return config.stash[SETTINGS]


def is_active(config: pytest.Config) -> bool:
    """Whether the user asked for the suite: an option is given, or ini ``emt = true``."""
    given = (value for name, value in vars(config.option).items() if name.startswith("emt_"))
    return any(value not in (None, False) for value in given) or bool(config.getini("emt"))
