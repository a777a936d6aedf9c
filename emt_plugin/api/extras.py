"""What the API draws on where it is there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from emt_plugin.errors import CouldNotRun


def needed(module: str, what: str) -> Any:
    """A module of the extra ``notebook``.

    Args:
        module: its name.
        what: what it is for, in words that begin a sentence.

    Raises:
        CouldNotRun: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise CouldNotRun(f"{what} needs {package}: pip install 'pytest-emt[notebook]'") from None
