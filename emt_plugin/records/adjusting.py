"""What a pair's verdict owes to the other pairs of its run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from emt_plugin.gate import with_holm
from emt_plugin.records.record import PairRecord


def adjusted(pairs: Iterable[PairRecord]) -> list[PairRecord]:
    """Pairs with Holm's adjustment over all comparisons that gate."""
    pairs = list(pairs)
    done = iter(with_holm([pair.gating for pair in pairs if pair.gating and not is_identity(pair)]))
    result = []
    for pair in pairs:
        if pair.gate is None or is_identity(pair):
            result.append(pair)
            continue
        comparisons = list(pair.comparisons)
        comparisons[pair.gate] = next(done)
        result.append(replace(pair, comparisons=tuple(comparisons)))
    return result


def is_identity(pair: PairRecord) -> bool:
    """Whether a pair is the base of trajectories, which is compared with itself."""
    return pair.gating is not None and pair.gating.reference.kind == "checkpoint" and pair.key.checkpoint is None


def why_incomplete(pairs: Iterable[PairRecord], faults: Iterable[str] = ()) -> str | None:
    """Why a run is not complete, in one sentence; None where every pair has a verdict and nothing else went wrong."""
    pairs = list(pairs)
    unmeasured = [f"{pair.key.id}: {pair.reason}" for pair in pairs if pair.gating is None and not pair.is_awaited]
    reasons = unmeasured or list(faults) or [str(pair.reason) for pair in pairs if pair.is_awaited][:1]
    if not reasons:
        return None
    return reasons[0] + more(reasons)


def more(found: Sequence[str]) -> str:
    """How many there are beside the first."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
