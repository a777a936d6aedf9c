"""The statistics that verdicts and reports rest on, each once. Pure: the standard library only."""

from emt_plugin.stats.levels import ALPHA, LEVEL
from emt_plugin.stats.loss_tail import loss_p
from emt_plugin.stats.mcnemar import mcnemar
from emt_plugin.stats.mover import mean_interval
from emt_plugin.stats.multiplicity import benjamini_hochberg, holm
from emt_plugin.stats.sequential import SequentialGap, Settled, sequential_interval, sequential_p
from emt_plugin.stats.spending import alpha_at
from emt_plugin.stats.tango import PairedCounts, tango_interval, tango_z
from emt_plugin.stats.wilson import wilson_interval

__all__ = [
    "ALPHA",
    "LEVEL",
    "PairedCounts",
    "SequentialGap",
    "Settled",
    "alpha_at",
    "benjamini_hochberg",
    "holm",
    "loss_p",
    "mcnemar",
    "mean_interval",
    "sequential_interval",
    "sequential_p",
    "tango_interval",
    "tango_z",
    "wilson_interval",
]
