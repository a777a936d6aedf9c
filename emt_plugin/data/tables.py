"""Where an image set's table comes from: a parquet file, a saved dataset, an image folder or the hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.errors import CouldNotRun


def open_split(spec: ImageSetSpec) -> tuple[Any, str]:
    """The evaluated split as a ``datasets.Dataset``, and its name.

    Raises:
        CouldNotRun: it is not there or cannot be read.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        opened = _opened(spec)
    except Exception as error:  # datasets passes on the errors of a dozen libraries.
        if "corresponds to no data" in str(error):
            raise CouldNotRun(empty(spec, spec.split)) from None
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


def open_train(spec: ImageSetSpec, evaluated: str) -> Any | None:
    """The training split as a ``datasets.Dataset``; None where there is none beside the evaluated split."""
    named = {
        "parquet": lambda: bool(named_files(spec, spec.train_split)),
        "saved": lambda: (Path(spec.source) / "dataset_dict.json").exists(),
    }
    # What has one nameless split would give the evaluated images again.
    if spec.train_split == evaluated or not named.get(spec.kind, lambda: True)():
        return None
    try:
        table, split = open_split(replace(spec, split=spec.train_split))
    except CouldNotRun:
        return None
    return table if split == spec.train_split else None


def local_files(spec: ImageSetSpec) -> list[Path] | None:
    """The files that hold the evaluated split; None where only opening it tells."""
    path = Path(spec.source)
    if spec.kind == "parquet":
        return [path] if path.is_file() else named_files(spec, spec.split) or sorted(path.glob("*.parquet"))
    if spec.kind == "saved":
        folder = path / spec.split if (path / "dataset_dict.json").exists() else path
        return [file for file in sorted(folder.iterdir()) if file.is_file()] if folder.is_dir() else None
    return None


def named_files(spec: ImageSetSpec, split: str) -> list[Path]:
    """The parquet files of a folder that are named after a split, as on the hub."""
    path = Path(spec.source)
    return sorted(path.glob(f"{split}.parquet")) + sorted(path.glob(f"{split}-*.parquet"))


def empty(spec: ImageSetSpec, split: str) -> str:
    """What is said of an empty split."""
    return f"image set {spec.id}: the split '{split}' is empty"


def brief(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _opened(spec: ImageSetSpec) -> Any:
    import datasets

    if spec.kind == "saved":
        return datasets.load_from_disk(spec.source)
    if spec.kind == "folder":
        return datasets.load_dataset("imagefolder", data_dir=spec.source)
    if spec.kind == "hub":
        return datasets.load_dataset(spec.source, spec.config, split=spec.split, revision=spec.revision)
    files = [str(file) for file in local_files(spec) or ()]
    opened = datasets.load_dataset("parquet", data_files=files, split="train")
    by_name = Path(spec.source).is_file() or named_files(spec, spec.split)
    return opened if by_name else datasets.DatasetDict(train=opened)


def _why_not(spec: ImageSetSpec, error: Exception) -> str:
    if spec.kind == "hub":
        return (
            f"image set {spec.id} ({spec.source}) is not on this machine and could not be loaded from the hub "
            f"({brief(error)}); where there is a network, fetch it with: emt fetch {spec.id}"
        )
    return f"image set {spec.id} at {spec.source} cannot be read ({brief(error)})"
