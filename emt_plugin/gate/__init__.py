"""Paired outcomes become a comparison with a verdict. Pure: the standard library only."""

from emt_plugin.gate.comparison import (
    Comparison,
    Reference,
    Sequential,
    Verdict,
    chance_of,
    compare,
    compare_in_order,
    verdict_of,
    with_holm,
    with_itself,
)
from emt_plugin.gate.looks import Finding, findings
from emt_plugin.gate.tolerances import Tolerance, Tolerances, TolerancesError

__all__ = [
    "Comparison",
    "Finding",
    "Reference",
    "Sequential",
    "Tolerance",
    "Tolerances",
    "TolerancesError",
    "Verdict",
    "chance_of",
    "compare",
    "compare_in_order",
    "findings",
    "verdict_of",
    "with_holm",
    "with_itself",
]
