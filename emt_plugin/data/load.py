"""Load an image set through ``datasets``, check it, hash it and take its subset."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data.image_set import ImageSet, Item, in_subset_order, pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.scoring.reader import unreadable


def load_image_set(spec: ImageSetSpec, limit: int | None = None) -> ImageSet:
    """Load the evaluated split of an image set.

    Args:
        spec: from the catalog.
        limit: the first so many images of the fixed order; None for all.

    Raises:
        CouldNotRun: it is not there, is empty, has one class, a label outside its label set, or an image that
            does not decode.
    """
    table, split = _open(spec)
    for column in (spec.image, spec.label):
        if column not in table.column_names:
            raise CouldNotRun(
                f"image set {spec.id} has no column '{column}' (it has {', '.join(table.column_names)}); "
                f"name the columns in a catalog file (--emt-catalog)"
            )
    if len(table) == 0:
        raise CouldNotRun(_empty(spec, split))
    names, labels = _labels(table, spec)
    items = in_subset_order(_items(table, spec, labels))
    if len(items) < 1 or len(names) < 2:
        raise CouldNotRun(f"image set {spec.id} has one class ('{names[0]}'): there is nothing to tell apart")
    return ImageSet(spec, names, tuple(items[:limit]), len(table), split, table)


def _items(table: Any, spec: ImageSetSpec, labels: list[int]) -> list[Item]:
    seen: Counter[str] = Counter()
    items = []
    for row, label in enumerate(labels):
        try:
            digest = pixel_hash(table[row][spec.image])
        except Exception as error:  # Pillow and datasets raise whatever the broken file leads them to.
            raise CouldNotRun(f"image set {spec.id}: the image in row {row} does not decode ({_brief(error)})") from None
        items.append(Item(row, digest, seen[digest], label))
        seen[digest] += 1
    return items


def _labels(table: Any, spec: ImageSetSpec) -> tuple[tuple[str, ...], list[int]]:
    """Label names as they appear in prompts, and every row's label as an index into them."""
    from datasets import ClassLabel

    feature = table.features[spec.label]
    column = list(table[spec.label])
    if isinstance(feature, ClassLabel):
        raw, values = list(feature.names), column
    else:
        if not all(isinstance(value, str | int | bool | None) for value in column):
            raise CouldNotRun(f"image set {spec.id}: the column '{spec.label}' holds no single label in each row")
        raw = sorted({str(value) for value in column if value is not None})
        index = {name: position for position, name in enumerate(raw)}
        values = [index.get(str(value), -1) for value in column]
    for row, value in enumerate(values):
        if value is None or not 0 <= value < len(raw):
            raise CouldNotRun(f"image set {spec.id}: row {row} has the label {column[row]}, outside its {len(raw)} labels")
    words = wordnet_words() if spec.names == "wordnet" else {}
    names = tuple(words.get(name, name).replace("_", " ") for name in raw)
    alike = unreadable(names)
    if alike:
        raise CouldNotRun(
            f"image set {spec.id}: the labels {' and '.join(repr(name) for name in alike)} cannot be told apart in an answer; "
            f"give them names that differ in their words"
        )
    return names, values


def _open(spec: ImageSetSpec) -> tuple[Any, str]:
    """The evaluated split as a ``datasets.Dataset``, and its name."""
    import datasets

    datasets.disable_progress_bars()
    try:
        opened = _opened(spec)
    except Exception as error:  # datasets passes on the errors of a dozen libraries.
        if "corresponds to no data" in str(error):
            raise CouldNotRun(_empty(spec, spec.split)) from None
        raise CouldNotRun(_why_not(spec, error)) from None
    if isinstance(opened, datasets.Dataset):
        return opened, spec.split
    if spec.split in opened:
        return opened[spec.split], spec.split
    if len(opened) == 1 and spec.kind != "hub":
        only = next(iter(opened))
        return opened[only], str(only)
    raise CouldNotRun(
        f"image set {spec.id} has no split '{spec.split}' (it has {', '.join(opened)}); "
        f"name one in a catalog file (--emt-catalog)"
    )


def _opened(spec: ImageSetSpec) -> Any:
    import datasets

    path = Path(spec.source)
    if spec.kind == "saved":
        return datasets.load_from_disk(spec.source)
    if spec.kind == "folder":
        return datasets.load_dataset("imagefolder", data_dir=spec.source)
    if spec.kind == "hub":
        return datasets.load_dataset(spec.source, spec.config, split=spec.split, revision=spec.revision)
    if path.is_file():
        return datasets.load_dataset("parquet", data_files=spec.source, split="train")
    named = sorted(path.glob(f"{spec.split}.parquet")) + sorted(path.glob(f"{spec.split}-*.parquet"))
    files = named or sorted(path.glob("*.parquet"))
    opened = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    return opened if named else datasets.DatasetDict(train=opened)


def _empty(spec: ImageSetSpec, split: str) -> str:
    return f"image set {spec.id}: the split '{split}' is empty"


def _why_not(spec: ImageSetSpec, error: Exception) -> str:
    if spec.kind == "hub":
        return (
            f"image set {spec.id} ({spec.source}) is not on this machine and could not be loaded from the hub "
            f"({_brief(error)}); where there is a network, fetch it with: emt fetch {spec.id}"
        )
    return f"image set {spec.id} at {spec.source} cannot be read ({_brief(error)})"


def _brief(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


@cache
def wordnet_words() -> dict[str, str]:
    """WordNet ids of the classes of miniImageNet, with their words."""
    import emt_plugin.catalog

    path = Path(emt_plugin.catalog.__file__).parent / "wordnet.toml"
    return dict(tomllib.loads(path.read_text(encoding="utf-8")))
