"""Which code computed something: part of every key, so that a changed rule is never answered with an old result."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def code_hash(*parts: str) -> str:
    """16 hex digits over the source of some modules and packages, named relative to ``emt_plugin``."""
    digest = sha256()
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(PACKAGE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def minor_versions(*packages: str) -> dict[str, str]:
    """Major and minor version of some packages, ``none`` where one is not installed."""
    return {package: _minor(package) for package in packages}


def _minor(package: str) -> str:
    try:
        return ".".join(version(package).split(".")[:2])
    except PackageNotFoundError:
        return "none"
