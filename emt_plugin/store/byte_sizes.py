"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class SizeError(ValueError):
    """A text that is no size; the message says what is."""


def parsed(text: str) -> int:
    """Bytes of ``20GB``, ``24GiB``, ``1000``.

    Raises:
        SizeError: it is not a size, or nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B?)", text.strip().upper())
    unit = found and UNITS.get(found[2])
    if not found or not unit:
        raise SizeError(f"{text} is not a size; write one such as 20GB or 24GiB")
    size = int(float(found[1]) * unit)
    if size < 1:
        raise SizeError(f"{text} holds nothing; write a size such as 20GB, or leave it out")
    return size


def words(size: int) -> str:
    """A size with a unit, two or three digits."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"
