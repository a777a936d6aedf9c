"""A pair is measured no further than its verdict needs: to the first image, in the fixed order, that settles it."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.gate import Reference
from emt_plugin.records import Row
from emt_plugin.stats import SequentialGap


class Stop:
    """Says after which row to stop, whatever batches the rows come in.

    Args:
        of: images of the split.
        tolerance: the largest loss that passes.
        chance: accuracy of one who does not look.
        scorer: whose outcomes gate.
        reference: what the model is compared with.
    """

    def __init__(self, of: int, tolerance: float, chance: float, scorer: str, reference: Reference) -> None:
        self._gap = SequentialGap(of, tolerance, chance)
        self._scorer = scorer
        self._reference = reference

    @property
    def reached(self) -> bool:
        """The verdict is settled."""
        return self._gap.is_final

    def upto(self, rows: Sequence[Row]) -> list[Row]:
        """The next rows, as far as the one that settles the verdict."""
        taken = []
        for row in rows:
            if self.reached:
                break
            self._gap.see(bool(row.correct_by(self._scorer)), row.reference_right(self._reference.key, self._scorer))
            taken.append(row)
        return taken
