"""How a state between a base and what was tuned from it was chosen: by one half of the images, with a promise on the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emt_plugin.analysis.change import Change
from emt_plugin.analysis.keep import Judged

# The halves of the images of each set.
DECIDES, PROMISES = 1, 2


@dataclass(frozen=True)
class Decision:
    """One state on one image set, on the half of the images that decides.

    Attributes:
        alpha: where the state is, from 0 at the base to 1 at what was tuned.
        image_set: its id.
        n: images.
        change: accuracy less the base's on the same images.
        tolerance: what the verdict was taken at, a fraction.
        verdict: on the change.
    """

    alpha: float
    image_set: str
    n: int
    change: Change
    tolerance: float
    verdict: Judged


@dataclass(frozen=True)
class Mending:
    """A state chosen from the line between a base and what was tuned from it.

    Attributes:
        checkpoint: what was tuned.
        alpha: of the chosen state, up to which all pass outside the domain on the half that decides; None where none does.
        written: the chosen state was written; else it FAILs on the other half, or there is none.
        decided: all states on all image sets, on the half that decides.
    """

    checkpoint: str
    alpha: float | None
    written: bool
    decided: tuple[Decision, ...]

    def not_passed(self, alpha: float, domain: Sequence[str]) -> tuple[Decision, ...]:
        """What does not pass outside the domain at a state, on the half that decides."""
        return tuple(
            found
            for found in self.decided
            if found.alpha == alpha and found.image_set not in domain and found.verdict != "PASS"
        )


def promise_of(verdicts: Iterable[Judged | None]) -> Judged:
    """What some verdicts are together: FAIL where one is, PASS where all are; no verdict is none that passes.

    Args:
        verdicts: of a chosen state, on all image sets outside the domain.
    """
    found = set(verdicts)
    if "FAIL" in found:
        return "FAIL"
    return "PASS" if found == {"PASS"} else "INCONCLUSIVE"
