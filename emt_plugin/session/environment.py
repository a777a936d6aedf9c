"""What a run ran on, without importing any of it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emt_plugin import __version__
from emt_plugin.session.devices import cores, visible_gpus

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "safetensors", "pillow", "numpy", "pytest", "pytest-xdist")


def describe(root: Path, command: str) -> dict[str, Any]:
    """Versions, machine, git state and the command, as plain data; no secret and no user's name is among them.

    Args:
        root: a folder of the user's repository.
        command: what does the same again.
    """
    return {
        "pytest_emt": __version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "gpus": len(visible_gpus()),
        "git": _git(root),
        "command": command,
        "ci": os.environ.get("CI") is not None,
    }


def command(program: str, arguments: Iterable[str], home: Path) -> str:
    """What runs pytest again, as a shell takes it; the home folder without the user's name.

    Args:
        program: ``sys.argv[0]``: of ``python -m pytest`` a file that is no program.
        arguments: as pytest was given them.
        home: the user's.
    """
    name = Path(program).name
    words = ["python", "-m", "pytest"] if name.endswith(".py") else [name or "pytest"]
    return " ".join([*words, *(_word(str(argument), str(home)) for argument in arguments)])


def call(name: str, arguments: Mapping[str, object], home: Path | None = None) -> str:
    """What calls a function again; the home folder without the user's name.

    Args:
        name: the function's.
        arguments: by their names.
        home: the user's; None to look it up.
    """
    folder = str(home or Path.home())

    def said(value: object) -> str:
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(said, value))}]"
        text = str(value)
        at_home = isinstance(value, str | Path) and folder != "/" and (text == folder or text.startswith(f"{folder}/"))
        return repr(f"~{text[len(folder) :]}" if at_home else text if isinstance(value, Path) else value)

    return f"{name}({', '.join(f'{key}={said(value)}' for key, value in arguments.items())})"


def _word(text: str, home: str) -> str:
    """One word for a shell, which reads ``~`` outside quotes alone and at the beginning of a word."""
    before, found, behind = text.partition(home)
    if not found or (behind and not behind.startswith("/")) or home == "/":
        return shlex.quote(text)
    if not before:
        return "~" + (f"/{shlex.quote(behind[1:])}" if behind[1:] else "")
    return f'{shlex.quote(before)}"$HOME"{shlex.quote(behind) if behind else ""}'


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(root: Path) -> dict[str, Any] | None:
    def run(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
