"""Plain data becomes records, checked by their type hints: what is wrongly typed is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def typed(content: Any, kind: type[Kind]) -> Kind:
    """A dataclass, and all that it holds, from what JSON has of it.

    Raises:
        ValueError: a field is missing or of another type; the message names it.
    """
    import msgspec

    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "'")) from None


def decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    """Reads a dataclass from JSON, checked by its type hints, without making plain data of it first.

    The reader raises ValueError where it is no JSON, a field is missing or of another type.
    """
    import msgspec

    return msgspec.json.Decoder(kind).decode
