"""Image sets on disk, made from the bundled ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from emt_plugin.catalog import Catalog
from emt_plugin.data import ImageSet, load_image_set


@cache
def bundled(name: str, n: int = 20) -> tuple[tuple[str, ...], tuple[tuple[Image.Image, int], ...]]:
    """Label names of a bundled set, and some test images from all over it, with their labels."""
    table = datasets.load_dataset("parquet", data_files=f"{Catalog.load().image_set(name).source}/test.parquet", split="train")
    table = table.select([index * len(table) // n for index in range(n)])
    return tuple(table.features["label"].names), tuple((row["image"], row["label"]) for row in table)


def class_folders(root: Path, name: str, change: Callable[[Image.Image], Image.Image] = lambda i: i, n: int = 20,
                  file: str = "{}.png", **save: Any) -> Path:  # fmt: skip
    """A bundled set's images in a folder for each class."""
    labels, rows = bundled(name, n)
    for index, (image, label) in enumerate(rows):
        folder = root / labels[label]
        folder.mkdir(parents=True, exist_ok=True)
        change(image).save(folder / file.format(index), **save)
    return root


def encoded(image: Image.Image, kind: str = "PNG", **save: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


def catalog_with(folder: Path, source: Path, keys: str = "", like: str = "unknown") -> Catalog:
    """The catalog with an entry ``it`` for a path."""
    file = folder / "catalog.toml"
    file.write_text(f'[image_sets.it]\nsource = "{source}"\nlike = "{like}"\n{keys}\n')
    return Catalog.load(file)


def load(path: Path, keys: str = "", folder: Path | None = None, like: str = "unknown") -> ImageSet:
    """The image set at a path, with keys of a catalog entry."""
    if not keys and like == "unknown":
        return load_image_set(Catalog.load().image_set(str(path)))
    return load_image_set(catalog_with(folder or path.parent, path, keys, like).image_set("it"))


def hashes(image_set: ImageSet) -> list[str]:
    """The hashes of its images, in order."""
    return sorted(item.hash for item in image_set.items)


def files_in(root: Path) -> Iterator[Path]:
    """All files below a folder."""
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def parquet(path: Path, rows: Sequence[tuple[Image.Image, int]], names: Sequence[str]) -> None:
    """A parquet file as the hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    made = {"image": [image for image, _ in rows], "label": [label for _, label in rows]}
    datasets.Dataset.from_dict(made, features=features).to_parquet(path)
