"""What was asked for: by an option on the command line, else by the ini key of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emt_plugin.catalog import CatalogError
from emt_plugin.errors import UsageError
from emt_plugin.gate import TolerancesError
from emt_plugin.models.registry import BackendError
from emt_plugin.options.listed import BY_DEST
from emt_plugin.scoring import ScorerError


class Options(SimpleNamespace):
    """Options by their long names, ``emt_`` before them and underscores in them; what was not given is None."""

    def __getattr__(self, name: str) -> None:
        if not name.startswith("emt_"):
            raise AttributeError(name)


def nothing(name: str) -> None:
    """What ini settings say where there are none."""


class Asked:
    """Has a value for each option by its destination, such as ``emt_limit``; None, or False for a switch, where nobody asked.

    An ini key is a default: it is parsed like the option, and an error about it names the key.

    Args:
        option: the options, as text where a command line has text.
        home: the folder from which a suite's settings are meant: tolerances, store and reports.
        start: the folder in which it was asked: other files.
        ini: an ini setting by its name.
    """

    def __init__(self, option: Any, home: Path, start: Path, ini: Callable[[str], Any] = nothing) -> None:
        self.option = option
        self.home = home
        self.start = start
        self._ini = ini

    def __getattr__(self, name: str) -> Any:
        given = getattr(self.option, name)
        return self._of_ini(name) if given in (None, False) else given

    def by_ini(self, name: str) -> bool:
        """Whether a value comes from an ini key."""
        return getattr(self.option, name) in (None, False) and bool(self._of_ini(name))

    def path(self, name: str) -> Path | None:
        """A path: an option's from where pytest was started, an ini key's from the project's root."""
        value = getattr(self, name)
        return (self.home if self.by_ini(name) else self.start) / value if value else None

    @contextmanager
    def naming(self, *names: str) -> Iterator[None]:
        """Name the ini keys among ``names`` in whatever error there is about them.

        Raises:
            UsageError: in place of any error about a name or a value.
        """
        try:
            yield
        except (CatalogError, TolerancesError, ScorerError, BackendError, UsageError) as error:
            keys = [name for name in names if self.by_ini(name)]
            text = str(error)
            for key in keys:
                text = text.replace(BY_DEST[key].flag, key)
            raise UsageError(f"{text}{f' (ini {keys[0]})' if keys else ''}") from None

    def _of_ini(self, name: str) -> Any:
        if not BY_DEST[name].ini:
            return None
        try:
            return self._ini(name) or (None if BY_DEST[name].metavar else False)
        except (TypeError, ValueError) as error:
            # Settings in TOML have types of their own.
            raise UsageError(f"ini {name}: {error}; write it in quotes, or a list in brackets") from None
