"""What a part of a pair by images keeps for the whole: which part it is, and what the whole will be compared with."""

from __future__ import annotations

from dataclasses import dataclass

from emt_plugin.gate import Reference, Tolerance


@dataclass(frozen=True)
class Against:
    """A comparison that the whole pair will have.

    Attributes:
        scorer: name of the scorer whose ``correct`` is compared.
        reference: what it is compared with.
        tolerance: what the verdict will be taken at, and where that comes from.
    """

    scorer: str
    reference: Reference
    tolerance: Tolerance


@dataclass(frozen=True)
class Part:
    """Which of the images of a pair one run measured, by ``--emt-shard-by images``.

    Attributes:
        index: 1 for the first.
        count: how many parts there are; this one has every so manieth image of the fixed order, from its index on.
        n: images of all parts.
        images: content hash of all of them, as the whole pair's record has it.
        against: the comparisons of the whole pair, in order.
        gate: index of the one that will gate; None where there is nothing to gate against.
        probes: what must be said beside the probes; empty without any.
    """

    index: int
    count: int
    n: int
    images: str
    against: tuple[Against, ...] = ()
    gate: int | None = None
    probes: str = ""

    @property
    def words(self) -> str:
        """Which part it is."""
        return f"part {self.index} of {self.count}"
