"""What was asked for: by an option on the command line, else by the ini key of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.catalog import CatalogError
from emt_plugin.gate import TolerancesError
from emt_plugin.models.registry import BackendError
from emt_plugin.options.listed import BY_DEST
from emt_plugin.pytest_plugin.home import home_of
from emt_plugin.scoring import ScorerError


class Asked:
    """Has a value for each option by its destination, such as ``emt_limit``; None, or False for a switch, where nobody asked.

    An ini key is a default: it is parsed like the option, and an error about it names the key.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        given = getattr(self._config.option, name)
        return self._of_ini(name) if given in (None, False) else given

    def by_ini(self, name: str) -> bool:
        """Whether a value comes from an ini key."""
        return getattr(self._config.option, name) in (None, False) and bool(self._of_ini(name))

    def path(self, name: str) -> Path | None:
        """A path: an option's from where pytest was started, an ini key's from the project's root."""
        value = getattr(self, name)
        return (home_of(self._config) if self.by_ini(name) else self._config.invocation_params.dir) / value if value else None

    @contextmanager
    def naming(self, *names: str) -> Iterator[None]:
        """Name the ini keys among ``names`` in whatever error there is about them.

        Raises:
            pytest.UsageError: in place of any error about a name or a value.
        """
        try:
            yield
        except (CatalogError, TolerancesError, ScorerError, BackendError, pytest.UsageError) as error:
            keys = [name for name in names if self.by_ini(name)]
            text = str(error).removeprefix("emt: ")
            for key in keys:
                text = text.replace(BY_DEST[key].flag, key)
            raise pytest.UsageError(f"emt: {text}{f' (ini {keys[0]})' if keys else ''}") from None

    def _of_ini(self, name: str) -> Any:
        if not BY_DEST[name].ini:
            return None
        try:
            return self._config.getini(name) or (None if BY_DEST[name].metavar else False)
        except (TypeError, ValueError) as error:
            # Settings in TOML have types of their own.
            raise pytest.UsageError(f"emt: ini {name}: {error}; write it in quotes, or a list in brackets") from None
