"""The images that a pair is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

from PIL import Image

from emt_plugin.catalog import ImageSetSpec, Question
from emt_plugin.errors import CouldNotRun

SEED = "emt-subset-1"


class Table(Protocol):
    """The part of ``datasets.Dataset`` that is read here."""

    def __getitem__(self, row: int) -> dict[str, Any]: ...


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
    """

    spec: ImageSetSpec
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    n_split: int
    split: str
    open: Callable[[], Table] = field(compare=False, repr=False)

    @property
    def question(self) -> Question:
        """What is asked of every image."""
        return self.spec.question(self.labels)

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

    @property
    def fingerprint(self) -> str:
        """sha256 over the evaluated images and labels: equal if and only if two runs saw the same."""
        digest = sha256("\0".join(self.labels).encode())
        for item in self.items:
            digest.update(f"{item.hash}:{item.occurrence}:{item.label};".encode())
        return digest.hexdigest()

    @cached_property
    def table(self) -> Table:
        """Where the images are; one is decoded at a time."""
        return self.open()

    def images(self, items: Sequence[Item]) -> list[Image.Image]:
        """The RGB images of some items."""
        return [as_rgb(self.table[item.row][self.spec.image]) for item in items]


def as_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB."""
    return image if image.mode == "RGB" else image.convert("RGB")


def pixel_hash(image: Image.Image) -> str:
    """sha256 of an image's size and decoded RGB pixels."""
    rgb = as_rgb(image)
    return sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def in_subset_order(items: Sequence[Item]) -> list[Item]:
    """A fixed pseudo-random order that depends on the images and a published seed, not on their order in the file."""
    return sorted(items, key=lambda item: (sha256(f"{SEED}:{item.hash}:{item.occurrence}".encode()).digest(), item.row))
