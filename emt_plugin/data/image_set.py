"""The images that a pair is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from PIL import Image

from emt_plugin.catalog import ImageSetSpec, Question
from emt_plugin.data.pixels import PixelRule, as_rgb, decoded, pixel_hash
from emt_plugin.data.source import Table
from emt_plugin.errors import CouldNotRun
from emt_plugin.records import SEED, images_hashes, place_of

__all__ = ["SEED", "ImageSet", "Item", "as_rgb", "in_subset_order", "pixel_hash", "rule_of"]


@dataclass(frozen=True)
class Item:
    """One evaluated image.

    Attributes:
        row: its index in the split.
        hash: sha256 of its size and decoded RGB pixels.
        occurrence: 0 for the first image of this content in the split, 1 for the next.
        label: index into the label names.
    """

    row: int
    hash: str
    occurrence: int
    label: int

    @property
    def key(self) -> str:
        """What its rows in the store are filed under: sets contain duplicates."""
        return f"{self.hash}:{self.occurrence}"


@dataclass(frozen=True)
class ImageSet:
    """A labelled image set, cut to its fixed subset.

    Attributes:
        spec: what it was asked for by.
        labels: label names, underscores as spaces.
        items: the evaluated images, in the subset's order.
        n_split: images in the whole split.
        split: name of the split.
        open: opens the table of the split; not before an image is looked at.
        pixels: what was done to the pixels of how many images of the split.
        notes: what a reader of the results should know of the images.
        whole: the subset that the items are a part of; empty where they are all of it.
    """

    spec: ImageSetSpec
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    n_split: int
    split: str
    open: Callable[[], Table] = field(compare=False, repr=False)
    pixels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: tuple[Item, ...] = ()

    @property
    def question(self) -> Question:
        """What is asked of every image."""
        return self.spec.question(self.labels)

    def first(self, count: int) -> ImageSet:
        """The first so many images of the fixed order."""
        return replace(self, items=self.items[:count])

    def half(self, which: int) -> ImageSet:
        """One half of the images: every second different one of the fixed order, from the first or the second on.

        An image's half depends on those before it in that order alone, so it is the same for any number of them. Images of
        equal content are in one half.

        Args:
            which: 1 or 2.

        Raises:
            CouldNotRun: there is no image in it.
        """
        places: dict[str, int] = {}
        for item in self.items:
            places.setdefault(item.hash, len(places))
        if len(places) < which:
            raise CouldNotRun(f"image set {self.spec.id} has one image, which makes no halves; take more with --emt-limit")
        return replace(self, items=tuple(item for item in self.items if places[item.hash] % 2 == which - 1))

    def only(self, beginnings: Sequence[str]) -> ImageSet:
        """The images whose hash begins like one of some.

        Raises:
            CouldNotRun: there is none.
        """
        found = tuple(item for item in self.items if item.hash.startswith(tuple(beginnings)))
        if not found:
            raise CouldNotRun(
                f"no image of {self.spec.id}'s split '{self.split}' has a hash that begins with {' or '.join(beginnings)}; "
                f"name its image set with --emt-image-set"
            )
        return replace(self, items=found)

    def part(self, index: int, count: int) -> ImageSet:
        """Every ``count``-th image from the ``index``-th on, 1 being the first: parts are alike but for one image.

        Raises:
            CouldNotRun: there are more parts than images.
        """
        if count > len(self.items):
            raise CouldNotRun(
                f"{self.spec.id} has {len(self.items)} images to measure, which cannot be parted into {count}: "
                f"make no more parts than that with --emt-shard, or give this image set a run of its own"
            )
        return replace(self, items=self.items[index - 1 :: count], whole=self.items)

    @property
    def subset(self) -> ImageSet:
        """All images of the subset, where these are a part of them."""
        return replace(self, items=self.whole, whole=()) if self.whole else self

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the evaluated images and labels: equal if and only if two runs saw the same."""
        images = ((item.hash, item.occurrence, item.label) for item in self.items)
        return [sha256("\0".join(self.labels).encode()).hexdigest(), *images_hashes(self.labels, images)][-1]

    @cached_property
    def table(self) -> Table:
        """Where the images are; one is decoded at a time."""
        return self.open()

    def images(self, items: Sequence[Item]) -> list[Image.Image]:
        """The RGB images of some items."""
        rule = rule_of(self.spec)
        return [decoded(self.table.encoded(item.row), rule).image for item in items]


def rule_of(spec: ImageSetSpec) -> PixelRule:
    """What an image set's entry decides about pixels."""
    return PixelRule(spec.background, spec.range)


def in_subset_order(items: Sequence[Item]) -> list[Item]:
    """A fixed pseudo-random order that depends on the images and a published seed, not on their order in the file."""
    return sorted(items, key=lambda item: (place_of(item.hash, item.occurrence), item.row))
