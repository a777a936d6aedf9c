"""Files that list images and their labels: CSV, TSV, JSON lines, and the metadata files of image folders."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data import splits
from emt_plugin.data.columns import has_both, image_column, label_column, not_elsewhere, split_column
from emt_plugin.data.folders import listing, unread_in_words
from emt_plugin.data.formats import foreign
from emt_plugin.data.source import Split, Table, by_name, not_a_pointer, refused
from emt_plugin.errors import CouldNotRun

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Row:
    """One listed image.

    Attributes:
        path: the image file.
        label: what is written of its class.
        split: the split that it belongs to.
    """

    path: Path
    label: object
    split: str


def is_listing(path: Path) -> bool:
    """Whether a file's name is that of a listing."""
    return path.suffix.lower() in ENDINGS


def lists_images(spec: ImageSetSpec, path: Path) -> bool:
    """Whether a file lists images and labels, by the names of its columns."""
    try:
        records = records_of(spec, path)
    except CouldNotRun:
        return False
    return bool(records) and has_both(spec, list(records[0]))


def listed(spec: ImageSetSpec, files: Mapping[str, Sequence[Path]], root: Path) -> list[Split]:
    """The splits of image sets whose rows are listed in files.

    Args:
        spec: the image set.
        files: listings by the split that they are named after, ``all`` where they are not.
        root: the folder of the image set.

    Raises:
        CouldNotRun: a listing cannot be read, or lists an image that is not there.
    """
    rows = [row for split, paths in files.items() for path in paths for row in _rows(spec, path, split)]
    if not rows:
        raise refused(spec, f"{', '.join(path.name for paths in files.values() for path in paths)} lists no image")
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(row.split, []).append(row)
    unlisted = _unlisted(rows)
    listings = [path for paths in files.values() for path in paths]
    return [_split(spec, root, listings, name, found, unlisted) for name, found in by_split.items()]


def _split(
    spec: ImageSetSpec, root: Path, listings: Sequence[Path], name: str, rows: Sequence[Row], notes: tuple[str, ...]
) -> Split:
    files = {**by_name(listings, root), **by_name((row.path for row in rows if row.path.is_file()), root)}
    return Split(name, files, partial(_read, spec, root, rows, notes), {"notes": list(notes)})


def _read(spec: ImageSetSpec, root: Path, rows: Sequence[Row], notes: tuple[str, ...]) -> Table:
    missing = [row.path for row in rows if not row.path.is_file()]
    if missing:
        raise refused(
            spec,
            f"{len(missing):,} of {len(rows):,} listed images {'is' if len(missing) == 1 else 'are'} not there (first: "
            f"{missing[0]}): paths are relative to the file that lists them",
        )
    from collections import Counter

    unread = Counter(found for row in rows if (found := foreign(row.path)))
    if unread:
        raise refused(spec, f"{unread_in_words(Counter(unread))} not read: save them as PNG or JPEG")
    labels: dict[Path, object] = {}
    for row in rows:
        if labels.setdefault(row.path, row.label) != row.label:
            raise refused(spec, f"{row.path.name} is listed with two labels, '{labels[row.path]}' and '{row.label}'")

    twice = len(rows) - len(labels)
    more = (f"{twice:,} row{'' if twice == 1 else 's'} of images that are listed before count once more",) if twice else ()

    def named(row: int) -> str:
        path = rows[row].path
        return f"the image {path.relative_to(root) if path.is_relative_to(root) else path}"

    return Table(
        values=[row.label for row in rows],
        names=None,
        encoded=lambda row: not_a_pointer(spec, rows[row].path).read_bytes(),
        where=named,
        notes=(*notes, *more),
    )


def _unlisted(rows: Iterable[Row]) -> tuple[str, ...]:
    """What to say of images that lie beside listed ones and are not listed."""
    paths = {row.path for row in rows}
    folders = sorted({path.parent for path in paths if path.parent.is_dir()})
    found = [image for folder in folders for image in listing(folder).images if image not in paths]
    if not found:
        return ()
    return (f"{len(found):,} image file{'' if len(found) == 1 else 's'} without a row left out (first: {found[0].name})",)


def _rows(spec: ImageSetSpec, path: Path, split: str) -> list[Row]:
    """The rows of one listing; of a metadata file, with the class folders as labels where it has none."""
    records = records_of(spec, path)
    if not records:
        return []
    columns = list(dict.fromkeys(column for record in records for column in record))
    values = {column: [record.get(column) for record in records] for column in columns}
    metadata = path.name in METADATA
    image = "file_name" if metadata and "file_name" in columns else image_column(spec, columns)
    label = label_column(spec, columns, image)
    names = [_posix(spec, image, record.get(image), row, path) for row, record in enumerate(records)]
    column = split_column([column for column in columns if column not in (image, label)], values)
    of_rows = _splits_by_column(spec, path, values[column]) if column else _splits_by_path(spec, names, values[label], split)
    return [
        Row(_found(path.parent, name), record.get(label), of_row)
        for name, record, of_row in zip(names, records, of_rows, strict=True)
    ]


def _posix(spec: ImageSetSpec, column: str, value: object, row: int, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refused(spec, f"row {row + 1} of {path.name} has no path in the column '{column}'")
    return not_elsewhere(spec, column, value.strip())


def _found(folder: Path, name: str) -> Path:
    """The file that a listing names, written with slashes of either kind."""
    path = folder / Path(name).expanduser()
    return path if "\\" not in name or path.is_file() else folder / name.replace("\\", "/")


def _splits_by_column(spec: ImageSetSpec, path: Path, values: Sequence[object]) -> list[str]:
    empty = [row for row, value in enumerate(values) if value is None or not str(value).strip()]
    if empty:
        raise refused(spec, f"{len(empty):,} rows of {path.name} say no split (first: row {empty[0] + 1})")
    return [str(value).strip() for value in values]


def _splits_by_path(spec: ImageSetSpec, names: Sequence[str], labels: Sequence[object], split: str) -> list[str]:
    """The split of each row by the folders of its path, where at one depth all of them are named like splits."""
    if split != splits.ALL:
        return [split] * len(names)
    parts = [PurePosixPath(name.replace("\\", "/")).parts[:-1] for name in names]
    for depth in range(min(map(len, parts))):
        found = [folders[depth] for folders in parts]
        like_splits = [
            splits.stands_for(name) is not None and name != str(label) for name, label in zip(found, labels, strict=True)
        ]
        if all(like_splits):
            return found
        if any(like_splits):
            first = found[like_splits.index(True)]
            raise refused(
                spec,
                f"some of its images lie in the folder '{first}' and others in none: name each row's split in a column 'split'",
            )
        if len(set(found)) > 1:
            break
    return [split] * len(names)


def records_of(spec: ImageSetSpec, path: Path) -> list[dict[str, Any]]:
    """The rows of a listing as they are written, by column.

    Raises:
        CouldNotRun: it cannot be read.
    """
    not_a_pointer(spec, path)
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet  # type: ignore[import-untyped]

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise refused(spec, f"{path.name} is not UTF-8 (at byte {error.start}): save it as UTF-8") from None
    return _separated(spec, path, text) if path.suffix.lower() in (".csv", ".tsv") else _json(spec, path, text)


def _separated(spec: ImageSetSpec, path: Path, text: str) -> list[dict[str, Any]]:
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=header.count)
    try:
        first, *lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if line] or [[]]
    except csv.Error as error:
        raise refused(spec, f"{path.name} is no CSV ({error})") from None
    columns = [column.strip() for column in first]
    if any(PurePosixPath(column).suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"} for column in columns):
        raise refused(spec, f"{path.name} has no header: write the names of its columns (file_name, label) into its first row")
    if len(set(columns)) < len(columns):
        raise refused(spec, f"{path.name} has two columns of one name: give each its own")
    for number, line in enumerate(lines):
        if len(line) != len(columns):
            raise refused(spec, f"row {number + 1} of {path.name} has {len(line)} cells for {len(columns)} columns")
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _json(spec: ImageSetSpec, path: Path, text: str) -> list[dict[str, Any]]:
    try:
        if path.suffix.lower() == ".json":
            rows = json.loads(text)
            if isinstance(rows, dict):
                raise refused(
                    spec, f"{path.name} is one JSON object, of a format that is not read: write a CSV of paths and labels"
                )
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise refused(spec, f"{path.name} is no list of JSON objects, one a line ({error})") from None
    if not all(isinstance(row, dict) for row in rows):
        raise refused(spec, f"{path.name} is no list of JSON objects, one a line")
    return list(rows)
