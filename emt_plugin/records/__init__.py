"""Pairs become a run record. Pure: no torch, no pytest."""

from emt_plugin.records.journal import Journal, Journalled, Row, read_journals, read_predictions, write_predictions
from emt_plugin.records.place import RunPlace
from emt_plugin.records.record import (
    EncoderFacts,
    PairKey,
    PairRecord,
    RecordError,
    RunRecord,
    ScoreSummary,
    Timing,
)

__all__ = [
    "EncoderFacts",
    "Journal",
    "Journalled",
    "PairKey",
    "PairRecord",
    "RecordError",
    "Row",
    "RunPlace",
    "RunRecord",
    "ScoreSummary",
    "Timing",
    "read_journals",
    "read_predictions",
    "write_predictions",
]
