"""Which checkpoint of a trajectory to keep, by a rule that is fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Judged = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Keep:
    """The checkpoint to keep.

    Attributes:
        kept: index of the state; 0 is the base.
        stopped_at: index of the first state at which an image set outside the domain does not pass; None where all do.
        because: those image sets there, with their verdicts.
        recovered: later states at which all of them pass again: shown, not recommended.
    """

    kept: int
    stopped_at: int | None
    because: Mapping[str, Judged]
    recovered: tuple[int, ...]


def checkpoint_to_keep(verdicts: Sequence[Mapping[str, Judged | None]], domain: Sequence[str]) -> Keep:
    """Walk the states in order of training, and stop at the first at which anything outside the domain does not pass.

    A fixed sequence of hypotheses, each tested at alpha only if all before it passed, needs no correction for their number
    (Maurer, Hothorn and Lehmacher 1995; Westfall and Krishen 2001).

    Args:
        verdicts: for each state the verdict on each image set against the base, the base itself first; None for no verdict.
        domain: image sets that were trained on, which decide nothing.

    Raises:
        ValueError: no state.
    """
    if not verdicts:
        raise ValueError("a trajectory needs at least its base")
    lost = [
        {name: verdict or "INCONCLUSIVE" for name, verdict in state.items() if name not in domain and verdict != "PASS"}
        for state in verdicts
    ]
    # Nothing precedes the base that could be kept instead.
    stopped = next((index for index, found in enumerate(lost) if index and found), None)
    if stopped is None:
        return Keep(len(verdicts) - 1, None, {}, ())
    later = tuple(index for index in range(stopped + 1, len(verdicts)) if not lost[index])
    return Keep(stopped - 1, stopped, lost[stopped], later)
