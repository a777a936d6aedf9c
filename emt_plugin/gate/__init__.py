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
from emt_plugin.gate.tango import PairedCounts, tango_interval, tango_z
from emt_plugin.gate.tolerances import Tolerance, Tolerances, TolerancesError
from emt_plugin.gate.wilson import wilson_interval

__all__ = [
    "Comparison",
    "PairedCounts",
    "Reference",
    "Tolerance",
    "Tolerances",
    "TolerancesError",
    "Verdict",
    "chance_of",
    "compare",
    "tango_interval",
    "tango_z",
    "verdict_of",
    "wilson_interval",
    "with_holm",
    "with_itself",
]
