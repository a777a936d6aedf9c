"""What the EMT paper published, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class PublishedRow:
    """One row of the paper's tables.

    Attributes:
        table: the paper's number of the table.
        model: the paper's name of the model.
        scorer: ``judge``, ``text-embedding`` or, for encoders, ``zero-shot``.
        accuracy: fractions, in the order of the paper's image sets.
        tuned_on: image set that it was fine-tuned on; None as released.
        method: ``linear``, ``lora`` or ``encoder``; None as released.
        epoch: epochs of fine-tuning; None as released.
        encoder: the encoder that the paper compares it with.
    """

    table: str
    model: str
    scorer: str
    accuracy: tuple[float, ...]
    tuned_on: str | None = None
    method: str | None = None
    epoch: int | None = None
    encoder: str | None = None


@dataclass(frozen=True)
class Published:
    """The paper's accuracies.

    Attributes:
        source: where they are from.
        split: what they were measured on.
        image_sets: catalog names of the image sets, in the order of every row.
        rows: all of them.
    """

    source: str
    split: str
    image_sets: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def where(self, **wanted: object) -> list[PublishedRow]:
        """The rows whose attributes have these values."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in wanted.items())]

    def trajectory(self, model: str, tuned_on: str, method: str, scorer: str = "judge") -> list[Sequence[float]]:
        """Accuracies of one fine-tuning run by epoch, as released first."""
        released = self.where(model=model, scorer=scorer, tuned_on=None)[:1]
        tuned = self.where(model=model, tuned_on=tuned_on, method=method, scorer=scorer)
        return [row.accuracy for row in (*released, *sorted(tuned, key=lambda row: row.epoch or 0))]


@cache
def published() -> Published:
    """``published.toml``."""
    content = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
    rows = [
        PublishedRow(**{**row, "accuracy": tuple(round(value / 100, 6) for value in row["accuracy"])})
        for row in content["rows"]
    ]
    return Published(content["source"], content["split"], tuple(content["image_sets"]), tuple(rows))
