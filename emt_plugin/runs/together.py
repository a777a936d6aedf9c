"""What several runs say of one thing, said as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def together(found: Sequence[Any]) -> Any:
    """Plain data as one: what differs has all its values."""
    if all(isinstance(value, dict) for value in found):
        keys = dict.fromkeys(key for value in found for key in value)
        return {key: together([value[key] for value in found if key in value]) for key in keys}
    different = list(dict.fromkeys(map(str, found)))
    return found[0] if len(different) == 1 else " / ".join(different)
