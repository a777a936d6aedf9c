"""Text from strangers as a page may show it: every sign visible, nothing that turns the text beside it around."""

from __future__ import annotations

import unicodedata
from typing import Any

from markupsafe import Markup

# No line of a report is longer: what is cut is in the record.
MOST_SIGNS = 4000
# Joiners inside emoji and Indic words, and blanks, belong to the text.
KEPT = "\u200c\u200d\n\t"


def visible(value: Any) -> Any:
    """A value of a template; text with control signs, bidi marks and lone surrogates spelled out, cut where it is endless."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = cut(value, MOST_SIGNS)
    return text if text.isprintable() else "".join(map(_sign, text))


def cut(text: str, most: int) -> str:
    """A text of at most ``most`` signs, and how many were left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def _sign(sign: str) -> str:
    if sign.isprintable() or sign in KEPT or unicodedata.category(sign) == "Zs":
        return sign
    return f"⟨U+{ord(sign):04X}⟩"
