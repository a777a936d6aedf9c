"""Load an image set, check it, hash it and take its subset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from PIL import UnidentifiedImageError

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data.checks import Census
from emt_plugin.data.image_set import SEED, ImageSet, Item, in_subset_order, rule_of
from emt_plugin.data.labels import labels_of, named
from emt_plugin.data.pixels import DecodedImage, decoded
from emt_plugin.data.source import Split, Table, brief, refused
from emt_plugin.data.sources import evaluated_split, training_split
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store, code_hash, minor_versions


@dataclass(frozen=True)
class Index:
    """What is known of a split without its images: enough to ask the store about each of them.

    Attributes:
        labels: label names.
        split: name of the split.
        items: all its images in the subset's order.
        pixels: what was done to the pixels of how many images.
        notes: what a reader of the results should know.
        whole: all that decides it lies in the files of the split.
    """

    labels: tuple[str, ...]
    split: str
    items: tuple[Item, ...]
    pixels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: bool = True

    def to_row(self) -> dict[str, Any]:
        """Plain data for the store."""
        items = [[item.row, item.hash, item.occurrence, item.label] for item in self.items]
        return {
            "labels": list(self.labels),
            "split": self.split,
            "items": items,
            "pixels": dict(self.pixels),
            "notes": list(self.notes),
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Index:
        """The inverse of ``to_row``."""
        items = tuple(Item(*item) for item in row["items"])
        return cls(tuple(row["labels"]), row["split"], items, row["pixels"], tuple(row["notes"]))


def load_image_set(spec: ImageSetSpec, limit: int | None = None, store: Store | None = None) -> ImageSet:
    """Load the evaluated split of an image set.

    Args:
        spec: from the catalog.
        limit: the first so many images of the fixed order; None for all.
        store: where the images' hashes are remembered; without it every image is decoded.

    Raises:
        CouldNotRun: it is not there, is empty, has one class, a label outside its label set, or an image that
            does not decode; or which images are meant, or what their pixels mean, is not beyond doubt.
    """
    split = evaluated_split(spec)
    index = _remembered(store, spec, split, {}, lambda: _indexed(spec, split.name, split.read()))
    return _image_set(spec, split, index, limit)


def load_train(image_set: ImageSet, per_class: int, store: Store | None = None) -> ImageSet | None:
    """Images of the training split to fit probes on, none of which is evaluated.

    Args:
        image_set: the evaluated images; those of all parts count, where these are a part.
        per_class: so many images of each class at most, by a fixed pseudo-random order of the rows.
        store: where the choice is remembered.

    Returns:
        None where there is no training split, or it lacks a class.
    """
    image_set = image_set.subset
    spec = image_set.spec
    split = training_split(spec, image_set.split)
    if split is None:
        return None
    chosen = {"per_class": per_class, "evaluated": image_set.fingerprint}
    try:
        index = _remembered(store, spec, split, chosen, lambda: _train_index(image_set, split, per_class))
    except _NoTable:
        return None
    if {item.label for item in index.items} != set(range(len(image_set.labels))):
        return None
    return _image_set(replace(spec, split=split.name), split, index, None)


class _NoTable(Exception):
    """A training split that cannot be read as the evaluated one was."""


def _train_index(image_set: ImageSet, split: Split, per_class: int) -> Index:
    """The images to fit probes on."""
    spec = image_set.spec
    try:
        table = split.read()
        found = named(spec, table)
    except CouldNotRun as error:
        raise _NoTable from error
    known = {name: index for index, name in enumerate(image_set.labels)}
    of_name = [known.get(name, -1) for name in found.names]
    labels = [of_name[label] if label >= 0 else -1 for label in found.of_row]
    evaluated = {item.hash for item in image_set.items}
    census = Census()
    items = tuple(_balanced(spec, table, census, labels, per_class, evaluated))
    census.check(spec, whole=False)
    return Index(image_set.labels, split.name, items, dict(census.done), whole=table.whole)


def _balanced(
    spec: ImageSetSpec, table: Table, census: Census, labels: Sequence[int], per_class: int, without: Collection[str]
) -> list[Item]:
    """The first ``per_class`` rows of each class in a fixed pseudo-random order; only those are decoded."""
    taken: Counter[int] = Counter()
    seen: Counter[str] = Counter()
    items = []
    for row in sorted(range(len(labels)), key=lambda row: sha256(f"{SEED}:{row}".encode()).digest()):
        label = labels[row]
        if label < 0 or taken[label] >= per_class:
            continue
        digest = census.add(*_decoded(spec, table, row), label)
        if digest not in without:
            items.append(Item(row, digest, seen[digest], label))
            seen[digest] += 1
            taken[label] += 1
    return items


def _image_set(spec: ImageSetSpec, split: Split, index: Index, limit: int | None) -> ImageSet:
    notes = (*split.notes, *index.notes)
    items = index.items[:limit]
    return ImageSet(spec, index.labels, items, len(index.items), index.split, split.read, index.pixels, notes)


def _remembered(
    store: Store | None, spec: ImageSetSpec, split: Split, chosen: Mapping[str, Any], made: Callable[[], Index]
) -> Index:
    """The index of a split's content, and of what else decides it, from the store or made now."""
    if store is None or not split.files:
        return made()
    try:
        content = split.content(store)
    except OSError:
        return made()
    key = {
        "content": content,
        "facts": dict(split.facts),
        "chosen": dict(chosen),
        "columns": [spec.image, spec.label],
        "split": split.name,
        "config": spec.config,
        "names": spec.names,
        "labels": list(spec.labels),
        "background": spec.background,
        "range": list(spec.range or ()),
        "packages": minor_versions("pillow", "datasets"),
        "code": code_hash("data", "scoring/reader.py", "scoring/tokens.py"),
    }
    shelf = store.shelf("image-sets", key, {"image_set": spec.id})
    known = shelf.get("index")
    if known:
        return Index.of_row(known.value)
    index = made()
    if index.whole:
        shelf.put({"index": index.to_row()})
    return index


def _indexed(spec: ImageSetSpec, split: str, table: Table) -> Index:
    """Every image of a split, checked and hashed, in the subset's order."""
    if not table.values:
        raise refused(spec, f"the split '{split}' is empty")
    found = labels_of(spec, table)
    census = Census()
    seen: Counter[str] = Counter()
    items = []
    for row, label in enumerate(found.of_row):
        digest = census.add(*_decoded(spec, table, row), label)
        items.append(Item(row, digest, seen[digest], label))
        seen[digest] += 1
    notes = (*table.notes, *found.notes, *census.check(spec))
    return Index(found.names, split, tuple(in_subset_order(items)), dict(census.done), notes, table.whole)


def _decoded(spec: ImageSetSpec, table: Table, row: int) -> tuple[bytes, DecodedImage]:
    """The encoded bytes of a row's image, and the image."""
    try:
        encoded = table.encoded(row)
        return encoded, decoded(encoded, rule_of(spec))
    except CouldNotRun:
        raise
    except UnidentifiedImageError:
        raise refused(spec, f"{table.where(row)} does not decode: it is torn, empty, or in no format that is read") from None
    except Exception as error:  # Pillow raises whatever the broken file leads it to.
        raise refused(spec, f"{table.where(row)} does not decode ({brief(error)})") from None
