"""The images that a pair is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from PIL import Image

from emt_plugin.catalog import ImageSetSpec

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


@dataclass(frozen=True)
class ImageSet:
    """A labelled image set, cut to its fixed subset.

    Attributes:
        spec: what it was asked for by.
        labels: label names, underscores as spaces.
        items: the evaluated images, in the subset's order.
        n_split: images in the whole split.
        split: name of the split.
        table: where the images are; one is decoded at a time.
    """

    spec: ImageSetSpec
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    n_split: int
    split: str
    table: Table

    @property
    def question(self) -> str:
        """The prompt with the label names in it."""
        return self.spec.question(self.labels)

    @property
    def fingerprint(self) -> str:
        """sha256 over the evaluated images and labels: equal if and only if two runs saw the same."""
        digest = sha256("\0".join(self.labels).encode())
        for item in self.items:
            digest.update(f"{item.hash}:{item.occurrence}:{item.label};".encode())
        return digest.hexdigest()

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
