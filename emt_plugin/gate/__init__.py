"""Paired outcomes become a comparison with a verdict. Pure: the standard library only."""

from emt_plugin.gate.comparison import (
    Comparison,
    Reference,
    Verdict,
    chance_of,
    compare,
    verdict_of,
    with_holm,
    with_itself,
)
from emt_plugin.gate.tolerances import Tolerance, Tolerances, TolerancesError

__all__ = [
    "Comparison",
    "Reference",
    "Tolerance",
    "Tolerances",
    "TolerancesError",
    "Verdict",
    "chance_of",
    "compare",
    "verdict_of",
    "with_holm",
    "with_itself",
]
