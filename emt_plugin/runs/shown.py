"""Which images of a pair are worth showing, and why each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from emt_plugin.records import Flip, PairRecord, Row

# Of each reason, the first first; of a pair of a trajectory, which has many, a few.
MOST = {"lost": 200, "flipped": 100, "unsaid": 48}
MOST_ALONG = {"lost": 8, "flipped": 8, "unsaid": 8}


@dataclass(frozen=True)
class Picked:
    """One image, and why it is shown.

    Attributes:
        row: the image.
        reasons: why, the most telling first.
        rank: what goes first where there is no room for all has less; a share of those that may be shown for its reason.
        flip: how it was read in the run that is compared.
    """

    row: Row
    reasons: tuple[str, ...]
    rank: float
    flip: Flip | None = None


@dataclass(frozen=True)
class Gallery:
    """The images of a pair that a report may show, the most telling first.

    Attributes:
        picked: these images.
        totals: how many images of the pair there are of each reason, in the order of what is shown first.
    """

    picked: tuple[Picked, ...]
    totals: Mapping[str, int]

    @property
    def rows(self) -> list[Row]:
        """Their rows."""
        return [picked.row for picked in self.picked]


def gallery(pair: PairRecord, rows: Sequence[Row], flips: Sequence[Flip] = (), along: bool = False) -> Gallery:
    """Choose images: the reference right and the model wrong, then right before and wrong now, then known and not said.

    Where there are too many, every class and every failure kind has its turn.

    Args:
        pair: its record.
        rows: its images.
        flips: those that flipped against the run that is compared.
        along: the pair is one of a trajectory.
    """
    most = MOST_ALONG if along else MOST
    flipped = {(flip.image, flip.occurrence): flip for flip in flips if flip.lost}
    groups = {
        "lost": lost(pair, rows),
        "flipped": [row for row in rows if (row.image, row.occurrence) in flipped],
        "unsaid": [row for row in rows if knows_but_cannot_say(row)],
    }
    reasons: dict[int, list[str]] = {}
    for name, found in groups.items():
        for row in found:
            reasons.setdefault(row.row, []).append(name)
    chosen: dict[int, Picked] = {}
    for name, found in groups.items():
        kept = in_turns(found, most[name], chosen)
        ranks = {row.row: place / most[name] for place, row in enumerate(turns(kept), 1)}
        for row in kept:
            flip = flipped.get((row.image, row.occurrence))
            chosen[row.row] = Picked(row, tuple(reasons[row.row]), ranks[row.row], flip)
    picked = tuple(chosen.values())
    return Gallery(picked, {name: len(found) for name, found in groups.items() if found})


def lost(pair: PairRecord, rows: Sequence[Row]) -> list[Row]:
    """The images that the reference gets right and the model wrong; without a reference, all that the model gets wrong."""
    wrong = [row for row in rows if not row.correct]
    gating = pair.gating
    return [row for row in wrong if row.reference_right(gating.reference.key, gating.scorer)] if gating else wrong


def knows_but_cannot_say(row: Row) -> bool:
    """Whether the language model ranks an image's label first and does not answer it."""
    return row.correct_by("likelihood") is True and row.correct_by("answer") is False


def in_turns(rows: Sequence[Row], most: int, without: Collection[int] = ()) -> list[Row]:
    """At most ``most`` rows, one of each class and failure kind after the other, in the order of ``rows``.

    Args:
        rows: in the subset's order, which is pseudo-random: its first are a fair sample.
        most: how many.
        without: indices of rows that are taken already.
    """
    left = [row for row in rows if row.row not in without]
    if len(left) <= most:
        return left
    kept = {row.row for row in turns(left)[:most]}
    return [row for row in left if row.row in kept]


def turns(rows: Sequence[Row]) -> list[Row]:
    """The first of each class and failure kind, then the second of each, and so on."""
    seen: dict[tuple[int, str | None], int] = {}
    ranked = []
    for place, row in enumerate(rows):
        turn = seen[row.label, row.kind] = seen.get((row.label, row.kind), 0) + 1
        ranked.append((turn, place))
    return [rows[place] for _, place in sorted(ranked)]
