"""Which columns of a table hold the images, the labels and the splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data import splits
from emt_plugin.data.source import refused
from emt_plugin.errors import CouldNotRun

IMAGE_NAMES = (
    "image", "img", "images", "file_name", "filename", "file", "path", "filepath", "file_path", "image_path", "img_path",
    "image_file", "image_name", "filepaths", "image_paths", "png", "jpg", "jpeg", "webp",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "class_name", "classname", "category", "category_name", "target", "cls", "label_name", "y",
    "class_label", "class_id", "label_id", "fine_label",
)  # fmt: skip
SPLIT_NAMES = ("split", "subset", "partition", "data set", "dataset", "set", "fold")
CATALOG = "in a catalog file (--emt-catalog)"
ADDRESS = re.compile(r"(https?|s3|gs|ftp|hf)://", re.IGNORECASE)
BASE64 = re.compile(r"data:image/[^;]*;base64,|[A-Za-z0-9+/\n]{200,}={0,2}$")


def image_column(spec: ImageSetSpec, columns: Sequence[str]) -> str:
    """The column of images.

    Raises:
        CouldNotRun: none is known by its name, or several are.
    """
    return _column(spec, columns, "image", spec.image, IMAGE_NAMES)


def label_column(spec: ImageSetSpec, columns: Sequence[str], image: str | None = None) -> str:
    """The column of labels, which is not that of images.

    Raises:
        CouldNotRun: none is known by its name, or several are.
    """
    return _column(spec, columns, "label", spec.label, LABEL_NAMES, image)


def has_both(spec: ImageSetSpec, columns: Sequence[str]) -> bool:
    """Whether columns of images and of labels are known by their names."""
    known = [{asked, *usual} for asked, usual in ((spec.image, IMAGE_NAMES), (spec.label, LABEL_NAMES))]
    return all(any(column in names or column.lower() in names for column in columns) for names in known)


def split_column(columns: Sequence[str], values: Mapping[str, Sequence[object]]) -> str | None:
    """The column that says to which split a row belongs: ``split``, or another usual name whose values are names of splits."""
    for column in columns:
        if column.lower() == "split":
            return column
    for column in columns:
        if column.lower() in SPLIT_NAMES and all(splits.stands_for(str(value)) for value in values[column]):
            return column
    return None


def not_elsewhere(spec: ImageSetSpec, column: str, value: str) -> str:
    """The path of an image.

    Raises:
        CouldNotRun: it is no path, but an address or the image itself as text.
    """
    if ADDRESS.match(value):
        raise refused(spec, f"the column '{column}' holds addresses ({value[:60]}): download the images and list their paths")
    if BASE64.match(value):
        raise refused(spec, f"the column '{column}' holds images as base64 text: save them as files and list their paths")
    return value


def _column(
    spec: ImageSetSpec, columns: Sequence[str], what: str, asked: str, usual: Sequence[str], other: str | None = None
) -> str:
    if asked in columns:
        return asked
    # A name other than the default was given in a catalog file: nothing else is meant.
    found = [column for column in columns if column.lower() in usual and column != other] if asked == what else []
    if len(found) == 1:
        return found[0]
    if found:
        both = " and ".join(found)
        raise refused(spec, f"the columns {both} may both hold its {what}s: name the one that is meant with {what} {CATALOG}")
    raise CouldNotRun(f"image set {spec.id} has no column '{asked}' (it has {', '.join(columns)}); name the columns {CATALOG}")
