"""What lies beside the data of a hub repository and describes them: the head of its card, and lists of class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emt_plugin.store import file_hash

CARD, CLASS_NAMES = "README.md", "classnames.txt"
NOTE = f"its label names are those of {CARD} or {CLASS_NAMES}"


def head(root: Path) -> dict[str, Any]:
    """The YAML at the head of the ``README.md`` in a folder; empty where there is none that can be read."""
    try:
        text = (root / CARD).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    if not text.startswith("---"):
        return {}
    import yaml

    try:
        found = yaml.safe_load(text[3:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def configurations(root: Path) -> list[dict[str, Any]]:
    """The configurations that a card describes by their files."""
    found = head(root).get("configs")
    return [config for config in _mappings(found) if config.get("data_files")]


def with_names(root: Path | None, column: str, config: str | None, values: Sequence[object]) -> tuple[str, ...] | None:
    """The names of labels that are numbers from 0, as the card or ``classnames.txt`` has them.

    Returns:
        None where neither has names for all of the values.
    """
    if root is None or not values or not all(type(value) is int for value in values):
        return None
    numbers = {int(str(value)) for value in values}
    known = (_of_card(root, column, config), _of_list(root))
    return next((names for names in known if names and min(numbers) >= 0 and max(numbers) < len(names)), None)


def facts(root: Path) -> dict[str, str]:
    """The content of what may name its labels, for what is kept by content."""
    return {name: file_hash(root / name) for name in (CARD, CLASS_NAMES) if (root / name).is_file()}


def _of_card(root: Path, column: str, config: str | None) -> tuple[str, ...]:
    info = head(root).get("dataset_info")
    entries = _mappings(info if isinstance(info, list) else [info])
    entries = [entry for entry in entries if config is None or entry.get("config_name", config) == config]
    found = {
        tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
        for entry in entries
        for feature in _mappings(entry.get("features"))
        if feature.get("name") == column and (names := _class_names(feature))
    }
    return found.pop() if len(found) == 1 else ()


def _class_names(feature: dict[str, Any]) -> dict[str, Any]:
    kind = feature.get("dtype")
    label = kind.get("class_label") if isinstance(kind, dict) else None
    names = label.get("names") if isinstance(label, dict) else None
    if isinstance(names, list):
        return {str(index): name for index, name in enumerate(names)}
    return names if isinstance(names, dict) and all(str(key).isdecimal() for key in names) else {}


def _of_list(root: Path) -> tuple[str, ...]:
    try:
        text = (root / CLASS_NAMES).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _mappings(found: object) -> list[dict[str, Any]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
