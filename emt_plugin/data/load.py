"""Load an image set through ``datasets``, check it, hash it and take its subset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from emt_plugin.catalog import ImageSetSpec, wordnet_words
from emt_plugin.data.image_set import SEED, ImageSet, Item, in_subset_order, pixel_hash
from emt_plugin.data.tables import brief, empty, local_files, named_files, open_split, open_train
from emt_plugin.errors import CouldNotRun
from emt_plugin.scoring.reader import unreadable
from emt_plugin.store import Store, code_hash, content_hash, minor_versions


@dataclass(frozen=True)
class Index:
    """What is known of a split without its images: enough to ask the store about each of them.

    Attributes:
        labels: label names.
        split: name of the split.
        items: all its images in the subset's order.
    """

    labels: tuple[str, ...]
    split: str
    items: tuple[Item, ...]

    def to_row(self) -> dict[str, Any]:
        """Plain data for the store."""
        items = [[item.row, item.hash, item.occurrence, item.label] for item in self.items]
        return {"labels": list(self.labels), "split": self.split, "items": items}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Index:
        """The inverse of ``to_row``."""
        return cls(tuple(row["labels"]), row["split"], tuple(Item(*item) for item in row["items"]))


def load_image_set(spec: ImageSetSpec, limit: int | None = None, store: Store | None = None) -> ImageSet:
    """Load the evaluated split of an image set.

    Args:
        spec: from the catalog.
        limit: the first so many images of the fixed order; None for all.
        store: where the images' hashes are remembered; without it every image is decoded.

    Raises:
        CouldNotRun: it is not there, is empty, has one class, a label outside its label set, or an image that
            does not decode.
    """
    files = local_files(spec)
    if store is None or (files is None and spec.kind != "hub"):
        table, split = open_split(spec)
        return _image_set(spec, _indexed(table, spec, split), limit, lambda: table)
    if files is not None:
        index = _remembered(store, spec, files, {}, lambda: _indexed(*_opened_first(spec)))
        return _image_set(spec, index, limit, lambda: open_split(spec)[0])
    table, split = open_split(spec)
    cached = [Path(file["filename"]) for file in table.cache_files]
    index = _remembered(store, spec, cached, {"features": str(table.features)}, lambda: _indexed(table, spec, split))
    return _image_set(spec, index, limit, lambda: table)


def load_train(image_set: ImageSet, per_class: int, store: Store | None = None) -> ImageSet | None:
    """Images of the training split to fit probes on, none of which is evaluated.

    Args:
        image_set: the evaluated images.
        per_class: so many images of each class at most, by a fixed pseudo-random order of the rows.
        store: where the choice is remembered.

    Returns:
        None where there is no training split, or it lacks a class.
    """
    spec = replace(image_set.spec, split=image_set.spec.train_split)
    files = local_files(spec) if spec.kind == "saved" else named_files(spec, spec.split) if spec.kind == "parquet" else None
    if store is None or not files:
        index = _train_index(image_set, per_class)
    else:
        chosen = {"per_class": per_class, "evaluated": image_set.fingerprint}
        index = _remembered(store, spec, files, chosen, lambda: _train_index(image_set, per_class))
    if {item.label for item in index.items} != set(range(len(image_set.labels))):
        return None
    return _image_set(spec, index, None, lambda: open_train(image_set.spec, image_set.split))


def _train_index(image_set: ImageSet, per_class: int) -> Index:
    """The images to fit probes on; no item where there is no training split."""
    spec = image_set.spec
    table = open_train(spec, image_set.split)
    if table is None or not {spec.image, spec.label} <= set(table.column_names):
        return Index(image_set.labels, spec.train_split, ())
    raw, values = _raw_labels(table, spec)
    known = {name: index for index, name in enumerate(image_set.labels)}
    of_raw = [known.get(name, -1) for name in _words(raw, spec)]
    labels = [of_raw[value] if value is not None and 0 <= value < len(of_raw) else -1 for value in values]
    evaluated = {item.hash for item in image_set.items}
    return Index(image_set.labels, spec.train_split, tuple(_balanced(table, spec, labels, per_class, evaluated)))


def _balanced(table: Any, spec: ImageSetSpec, labels: Sequence[int], per_class: int, without: Collection[str]) -> list[Item]:
    """The first ``per_class`` rows of each class in a fixed pseudo-random order; only those are decoded."""
    taken: Counter[int] = Counter()
    seen: Counter[str] = Counter()
    items = []
    for row in sorted(range(len(labels)), key=lambda row: sha256(f"{SEED}:{row}".encode()).digest()):
        label = labels[row]
        if label < 0 or taken[label] >= per_class:
            continue
        digest = _decoded_hash(table, spec, row)
        if digest not in without:
            items.append(Item(row, digest, seen[digest], label))
            seen[digest] += 1
            taken[label] += 1
    return items


def _opened_first(spec: ImageSetSpec) -> tuple[Any, ImageSetSpec, str]:
    table, split = open_split(spec)
    return table, spec, split


def _image_set(spec: ImageSetSpec, index: Index, limit: int | None, opened: Callable[[], Any]) -> ImageSet:
    return ImageSet(spec, index.labels, index.items[:limit], len(index.items), index.split, opened)


def _remembered(
    store: Store, spec: ImageSetSpec, files: Iterable[Path], chosen: Mapping[str, Any], made: Callable[[], Index]
) -> Index:
    """The index of these files' content, and of what else decides it, from the store or made now."""
    try:
        content = content_hash(files, store)
    except OSError:
        return made()
    key = {
        "content": content,
        "chosen": dict(chosen),
        "columns": [spec.image, spec.label],
        "split": spec.split,
        "names": spec.names,
        "packages": minor_versions("pillow", "datasets"),
        "code": code_hash("data", "scoring/reader.py"),
    }
    shelf = store.shelf("image-sets", key, {"image_set": spec.id})
    known = shelf.get("index")
    if known:
        return Index.of_row(known.value)
    index = made()
    shelf.put({"index": index.to_row()})
    return index


def _indexed(table: Any, spec: ImageSetSpec, split: str) -> Index:
    """Every image of a split, checked and hashed, in the subset's order."""
    for column in (spec.image, spec.label):
        if column not in table.column_names:
            raise CouldNotRun(
                f"image set {spec.id} has no column '{column}' (it has {', '.join(table.column_names)}); "
                f"name the columns in a catalog file (--emt-catalog)"
            )
    if len(table) == 0:
        raise CouldNotRun(empty(spec, split))
    names, labels = _labels(table, spec)
    seen: Counter[str] = Counter()
    items = []
    for row, label in enumerate(labels):
        digest = _decoded_hash(table, spec, row)
        items.append(Item(row, digest, seen[digest], label))
        seen[digest] += 1
    if len(names) < 2:
        raise CouldNotRun(f"image set {spec.id} has one class ('{names[0]}'): there is nothing to tell apart")
    return Index(names, split, tuple(in_subset_order(items)))


def _decoded_hash(table: Any, spec: ImageSetSpec, row: int) -> str:
    try:
        return pixel_hash(table[row][spec.image])
    except Exception as error:  # Pillow and datasets raise whatever the broken file leads them to.
        raise CouldNotRun(f"image set {spec.id}: the image in row {row} does not decode ({brief(error)})") from None


def _labels(table: Any, spec: ImageSetSpec) -> tuple[tuple[str, ...], list[int]]:
    """Label names as they appear in prompts, and every row's label as an index into them."""
    raw, values = _raw_labels(table, spec)
    for row, value in enumerate(values):
        if value is None or not 0 <= value < len(raw):
            found = table[spec.label][row]
            raise CouldNotRun(f"image set {spec.id}: row {row} has the label {found}, outside its {len(raw)} labels")
    names = _words(raw, spec)
    alike = unreadable(names)
    if alike:
        raise CouldNotRun(
            f"image set {spec.id}: the labels {' and '.join(repr(name) for name in alike)} cannot be told apart in an answer; "
            f"give them names that differ in their words"
        )
    return names, values


def _raw_labels(table: Any, spec: ImageSetSpec) -> tuple[list[str], list[int]]:
    """Label names as the data has them, and every row's label as an index into them, -1 for none."""
    from datasets import ClassLabel

    feature = table.features[spec.label]
    column = list(table[spec.label])
    if isinstance(feature, ClassLabel):
        return list(feature.names), column
    if not all(isinstance(value, str | int | bool | None) for value in column):
        raise CouldNotRun(f"image set {spec.id}: the column '{spec.label}' holds no single label in each row")
    raw = sorted({str(value) for value in column if value is not None})
    index = {name: position for position, name in enumerate(raw)}
    return raw, [index.get(str(value), -1) for value in column]


def _words(raw: Sequence[str], spec: ImageSetSpec) -> tuple[str, ...]:
    words = wordnet_words() if spec.names == "wordnet" else {}
    return tuple(words.get(name, name).replace("_", " ") for name in raw)
