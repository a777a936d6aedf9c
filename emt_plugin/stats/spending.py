"""One alpha for all looks at something that changes between them."""

from __future__ import annotations

from emt_plugin.stats.levels import ALPHA


def alpha_at(look: int) -> float:
    """What look number ``look``, from 1, may spend of alpha: alpha / (look (look + 1)).

    These sum to alpha over any number of looks, so whatever the looks have to do with each other, an error at any of them has a
    probability of at most alpha (Boole's inequality).

    Raises:
        ValueError: there is no such look.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return ALPHA / (look * (look + 1))
