"""The folder from which a suite's relative settings are meant, and whose settings pytest reads."""

from __future__ import annotations

from pathlib import Path

import pytest

# Files in which pytest looks for settings, and what makes them its own.
SETTINGS = {"pytest.ini": "[pytest]", "pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}


def home_of(config: pytest.Config) -> Path:
    """The root that pytest found; where that lies elsewhere, the folder in which pytest was started.

    pytest takes a path that stands alone among the options (``--emt-model /models/mine``) for one of tests, and looks for its
    root and its settings there.
    """
    return config.invocation_params.dir if _is_elsewhere(config) else config.rootpath


def foreign_settings(config: pytest.Config) -> str | None:
    """What to say where pytest has read the settings of another project; None where it has not."""
    if not _is_elsewhere(config):
        return None
    started = config.invocation_params.dir
    own = next((started / name for name, mark in SETTINGS.items() if mark in _text(started / name)), None)
    if config.inipath is None and own is None:
        return None
    read = f"its settings from {config.inipath}" if config.inipath else f"no settings, not those in {own}"
    return (
        f"pytest reads {read}, for a path stands alone among the options: write it with an equals sign (--emt-model=PATH), "
        f"or name your own folder with --rootdir"
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _is_elsewhere(config: pytest.Config) -> bool:
    """Whether the root is not the suite's, and nobody named it.

    It holds neither the folder in which pytest was started nor any of the tests; or lies above both, and has nothing that
    makes it a root.
    """
    if config.option.rootdir or config.option.inifilename:
        return False
    root, started = config.rootpath, config.invocation_params.dir
    tests = [started / argument.split("::")[0] for argument in config.args]
    if not any(path.is_relative_to(root) for path in (started, *tests)):
        return True
    makes_it_one = config.inipath is not None or (root / "setup.py").is_file()
    return root != started and not makes_it_one and all(path.is_relative_to(started) for path in tests)
