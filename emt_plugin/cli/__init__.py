"""The command ``emt``."""

from emt_plugin.cli.commands import main

__all__ = ["main"]
