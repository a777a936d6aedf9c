"""A few images that say more than a number: what a model got wrong and its reference right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from emt_plugin.records import PairRecord
from emt_plugin.report.drawings.pair_view import ImageView, PairView

SHOWN = 3


@dataclass(frozen=True)
class Failure:
    """One image on the first screen.

    Attributes:
        image: picture, truth and answer.
        anchor: of its pair.
        title: its image set, behind its model where the run has several.
    """

    image: ImageView
    anchor: str
    title: str


def failures(pairs: Sequence[PairRecord], views: Sequence[PairView]) -> tuple[Failure, ...]:
    """At most three images that the reference gets right and the model wrong, of other classes, the worst pairs' first."""
    known = [(pair, view) for pair, view in zip(pairs, views, strict=True) if pair.gating]
    worst = sorted(known, key=lambda found: found[0].gating.gap if found[0].gating else 0.0)
    failed = [found for found in worst if found[0].gating and found[0].gating.verdict == "FAIL"]
    several = len({pair.key.id.removesuffix(pair.key.image_set) for pair in pairs}) > 1
    queues = [
        [Failure(image, view.anchor, pair.key.id if several else pair.key.image_set) for image in _one_of_each_class(view)]
        for pair, view in failed or worst
    ]
    return tuple([image for turn in zip_longest(*queues) for image in turn if image][:SHOWN])


def _one_of_each_class(view: PairView) -> list[ImageView]:
    """The images that are wrong where the reference is right, by how telling they are, each class once."""
    lost = [image for image in view.images if image.lost]
    classes: dict[str, ImageView] = {}
    for image in sorted(lost, key=lambda image: image.rank):
        classes.setdefault(image.label, image)
    return list(classes.values())
