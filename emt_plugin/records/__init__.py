"""Pairs become a run record. Pure: no torch, no pytest."""

from emt_plugin.records.changes import Difference, Flip, PairChange, Repeat, RunChanges, Shard, Trend, TrendPoint
from emt_plugin.records.images import MARK, SEED, images_hashes, mark, place_of
from emt_plugin.records.journal import (
    Journal,
    Journalled,
    OnePairAtATime,
    Row,
    read_flips,
    read_journals,
    read_predictions,
    write_flips,
    write_predictions,
)
from emt_plugin.records.parts import Against, Part
from emt_plugin.records.place import RunPlace
from emt_plugin.records.record import (
    Cost,
    EncoderFacts,
    KindRate,
    PairKey,
    PairRecord,
    RecordError,
    Replay,
    RunRecord,
    ScoreSummary,
    Timing,
    kind_rates,
)

__all__ = [
    "MARK",
    "SEED",
    "Against",
    "Cost",
    "Difference",
    "EncoderFacts",
    "Flip",
    "Journal",
    "Journalled",
    "KindRate",
    "OnePairAtATime",
    "PairChange",
    "PairKey",
    "PairRecord",
    "Part",
    "RecordError",
    "Repeat",
    "Replay",
    "Row",
    "RunChanges",
    "RunPlace",
    "RunRecord",
    "ScoreSummary",
    "Shard",
    "Timing",
    "Trend",
    "TrendPoint",
    "images_hashes",
    "kind_rates",
    "mark",
    "place_of",
    "read_flips",
    "read_journals",
    "read_predictions",
    "write_flips",
    "write_predictions",
]
