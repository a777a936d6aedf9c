"""Tables of images and labels read through ``datasets``: parquet files, saved datasets and the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data import splits
from emt_plugin.data.card import NOTE, facts, with_names
from emt_plugin.data.columns import image_column, label_column, not_elsewhere
from emt_plugin.data.source import LFS, Split, Table, all_there, brief, by_name, not_a_pointer, refused
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import file_hash


def parquet(spec: ImageSetSpec, files: Mapping[str, Sequence[Path]], root: Path) -> list[Split]:
    """The splits of parquet files.

    Args:
        spec: the image set.
        files: parquet files by split.
        root: the folder of the image set.
    """
    return [
        Split(name, by_name(paths, root), partial(_read_parquet, spec, name, sorted(paths), root), facts(root))
        for name, paths in files.items()
    ]


def is_saved(root: Path) -> bool:
    """Whether a folder is one that ``save_to_disk`` wrote."""
    return (root / "dataset_dict.json").exists() or (root / "state.json").exists()


def saved(spec: ImageSetSpec, root: Path) -> list[Split]:
    """The splits that ``save_to_disk`` wrote."""
    named = (root / "dataset_dict.json").exists()
    folders = {folder.name: folder for folder in sorted(root.iterdir()) if folder.is_dir()} if named else {splits.ALL: root}
    return [
        Split(
            name,
            by_name((file for file in sorted(folder.iterdir()) if file.is_file()), folder),
            partial(_read_saved, spec, folder),
        )
        for name, folder in folders.items()
    ]


def hub(spec: ImageSetSpec) -> Split:
    """The split of a hub's image set that is evaluated.

    Raises:
        CouldNotRun: it is not on this machine and cannot be fetched, or no split of it is evaluated by rule.
    """
    name, notes = splits.evaluated(spec, _hub_splits(spec)) if spec.split is None else (spec.split, ())
    return _hub_split(spec, name, notes)


def hub_training(spec: ImageSetSpec, evaluated: str) -> Split | None:
    """The training split of a hub's image set; None where there is none."""
    try:
        name = splits.training(spec, _hub_splits(spec), evaluated)
        return _hub_split(spec, name, ()) if name else None
    except CouldNotRun:
        return None


def _hub_splits(spec: ImageSetSpec) -> list[str]:
    """The names of its splits; where the hub's client cannot say, it has those that are asked for."""
    import datasets

    datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(spec.source, spec.config, revision=spec.revision)
    except Exception as error:  # datasets passes on the errors of a dozen libraries.
        raise _not_loaded(spec, error) from None
    named = list(builder.info.splits or getattr(builder.config, "data_files", None) or ())
    return [str(name) for name in named] or ["test", spec.train_split]


def _hub_split(spec: ImageSetSpec, name: str, notes: tuple[str, ...]) -> Split:
    import datasets

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(spec.source, spec.config, split=name, revision=spec.revision)
    except Exception as error:  # datasets passes on the errors of a dozen libraries.
        raise _not_loaded(spec, error) from None
    files = [Path(file["filename"]) for file in table.cache_files]
    features = {"features": str(table.features)}
    return Split(
        name, by_name(files, files[0].parent) if files else {}, partial(_table, spec, name, table, None), features, notes
    )


def _not_loaded(spec: ImageSetSpec, error: Exception) -> CouldNotRun:
    text = str(error)
    if "Config name is missing" in text or ("BuilderConfig" in text and "not found" in text):
        return refused(spec, f'name one of its configurations with config = "..." in a catalog file ({brief(error)})')
    if "Unknown split" in text:
        return refused(spec, f"{brief(error)} Name one with {splits.KEY}")
    return CouldNotRun(
        f"image set {spec.id} ({spec.source}) is not on this machine and could not be loaded from the hub "
        f"({brief(error)}); where there is a network, fetch it with: emt fetch {spec.id}"
    )


def _read_parquet(spec: ImageSetSpec, name: str, files: Sequence[Path], root: Path) -> Table:
    if len(files) > 1 or Path(spec.source) not in files:
        all_there(spec, files)
    for file in files:
        not_a_pointer(spec, file)
    return _table(spec, name, _opened(spec, name, lambda: _from_parquet(files)), root)


def _from_parquet(files: Sequence[Path]) -> Any:
    """The table of parquet files, which ``datasets`` keeps by their content.

    By itself it keeps them by their names, sizes and times of change, and would show old images for new ones.
    """
    import datasets

    content = sha256("".join(file_hash(file) for file in files).encode()).hexdigest()
    return datasets.load_dataset("parquet", name=content, data_files=[str(file) for file in files], split="train")


def _read_saved(spec: ImageSetSpec, folder: Path) -> Table:
    import datasets

    return _table(spec, folder.name, _opened(spec, folder.name, lambda: datasets.load_from_disk(str(folder))), folder)


def _opened(spec: ImageSetSpec, name: str, load: Callable[[], Any]) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        return load()
    except CouldNotRun:
        raise
    except Exception as error:  # datasets passes on the errors of a dozen libraries.
        if "corresponds to no data" in str(error):
            raise empty(spec, name) from None
        said = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise CouldNotRun(f"image set {spec.id} at {spec.source} cannot be read ({brief(said)})") from None


def empty(spec: ImageSetSpec, name: str) -> CouldNotRun:
    """What is raised for an empty split."""
    return refused(spec, f"the split '{name}' is empty")


def _table(spec: ImageSetSpec, name: str, table: Any, root: Path | None) -> Table:
    """The rows of a ``datasets.Dataset``."""
    from datasets import ClassLabel, Image

    if len(table) == 0:
        raise empty(spec, name)
    image = image_column(spec, table.column_names)
    label = label_column(spec, table.column_names, image)
    feature = table.features[label]
    if isinstance(table.features[image], Image):
        table = table.cast_column(image, Image(decode=False))
    elif not _may_hold_images(table.features[image]):
        raise refused(
            spec,
            f"its column '{image}' holds {_kind_of(table.features[image])}, not image files: "
            f"save the images as PNG files in a folder for each class, or as bytes",
        )
    values = list(table[label])
    whole = _images_inside(table, image)

    def encoded(row: int) -> bytes:
        return _bytes_of(spec, image, table[row][image], root)

    names = tuple(feature.names) if isinstance(feature, ClassLabel) else with_names(root, label, spec.config, values)
    notes = (NOTE,) if names and not isinstance(feature, ClassLabel) else ()
    return Table(values, names, encoded, notes=notes, whole=whole)


def _images_inside(table: Any, image: str) -> bool:
    """Whether the table has the bytes of its images, by its first row."""
    first = table[0][image]
    return isinstance(first, bytes) or (isinstance(first, dict) and first.get("bytes") is not None)


def _may_hold_images(feature: Any) -> bool:
    if isinstance(feature, dict):
        return bool({"bytes", "path"} & set(feature))
    return getattr(feature, "dtype", None) in {"binary", "large_binary", "string", "large_string"}


def _kind_of(feature: Any) -> str:
    kind = type(feature).__name__
    if kind.startswith("Array"):
        return "arrays of numbers"
    if kind in {"List", "LargeList", "Sequence", "list"}:
        inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
        return "lists of images" if isinstance(inner, dict) or type(inner).__name__ == "Image" else "lists of numbers"
    if isinstance(feature, dict):
        return f"structs of {', '.join(feature)} without bytes or path"
    return f"values of type {getattr(feature, 'dtype', kind)}"


def _bytes_of(spec: ImageSetSpec, column: str, value: Any, root: Path | None) -> bytes:
    """The bytes of an image's file, from a cell of any form that is read."""
    found = value
    if isinstance(value, dict):
        found = value.get("bytes")
        if found is None:
            found = value.get("path")
    if isinstance(found, str):
        name = not_elsewhere(spec, column, found)
        path = (root or Path()) / Path(name.replace("\\", "/")).expanduser()
        if not path.is_file():
            raise refused(spec, f"the image {path} is listed and not there: paths are relative to the image set's folder")
        found = path.read_bytes()
    if found is None:
        raise ValueError("there is none")
    if not isinstance(found, bytes):
        raise TypeError(f"{type(found).__name__} is no image file")
    if found.startswith(LFS):
        raise refused(spec, "an image of it is a Git LFS pointer, not the file itself: run git lfs pull")
    return found
