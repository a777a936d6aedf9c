"""What lies at a path: which reader reads it, and which files belong to which split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data import splits
from emt_plugin.data.card import configurations
from emt_plugin.data.folders import image_folder, listing
from emt_plugin.data.formats import container, foreign, ignored, is_image
from emt_plugin.data.listings import METADATA, is_listing, listed, lists_images
from emt_plugin.data.shards import web_dataset
from emt_plugin.data.source import Split, Table, not_a_pointer, refused
from emt_plugin.data.tables import hub, hub_training, is_saved, parquet, saved

Files = Mapping[str, Sequence[Path]]
Reader = Callable[[ImageSetSpec, Files, Path], list[Split]]
# A folder of parquet files or shards, as the hub lays them out, is at most so deep.
DEPTH = 3


def evaluated_split(spec: ImageSetSpec) -> Split:
    """The split that is evaluated.

    Raises:
        CouldNotRun: there is none that is meant beyond doubt, or what lies there is not read.
    """
    return hub(spec) if spec.kind == "hub" else splits.chosen(spec, _local(spec))


def training_split(spec: ImageSetSpec, evaluated: str) -> Split | None:
    """The training split beside the evaluated one; None where there is none."""
    if spec.kind == "hub":
        return hub_training(spec, evaluated)
    found = {split.name: split for split in _local(spec)}
    name = splits.training(spec, found, evaluated)
    return found[name] if name else None


def _local(spec: ImageSetSpec) -> list[Split]:
    path = Path(spec.source)
    try:
        if path.is_file():
            return _file(spec, path)
        return _folder(spec, path)
    except OSError as error:
        raise refused(spec, f"{error.filename or path} cannot be read ({error.strerror or error})") from None


def _reader(path: Path) -> Reader | None:
    if path.suffix.lower() in (".parquet", ".pq"):
        return parquet
    if path.suffix.lower() == ".tar":
        return web_dataset
    return listed if is_listing(path) else None


def _file(spec: ImageSetSpec, path: Path) -> list[Split]:
    reader = _reader(path)
    if reader:
        return reader(spec, {splits.ALL: [path]}, path.parent)
    not_a_pointer(spec, path)
    known = container(path)
    if known:
        raise refused(spec, f"{path.name} is {known}")
    if is_image(path) or foreign(path):
        raise refused(spec, f"{path.name} is one image: name a folder with a folder of images for each class")
    raise refused(
        spec, f"{path.name} is no image set that is read: name a folder, a CSV, JSONL or parquet file, or a WebDataset tar"
    )


def _unwrapped(root: Path) -> Path:
    """The folder, or the only folder in it where that is what was unpacked there."""
    found = listing(root)
    only = found.folders[0] if len(found.folders) == 1 and not found.has_images else None
    if only is None or splits.stands_for(only.name) or any(_reader(path) for path in found.others) or is_saved(root):
        return root
    inside = listing(only)
    holds_more = inside.folders or any(_reader(path) for path in inside.others)
    return _unwrapped(only) if holds_more and not inside.has_images else root


def _folder(spec: ImageSetSpec, path: Path) -> list[Split]:
    described = _described(spec, path)
    if described:
        return described
    root = _unwrapped(path)
    if is_saved(root):
        return saved(spec, root)
    found = listing(root)
    metadata = _metadata(root, found.folders)
    about_images = all(lists_images(spec, file) for files in metadata.values() for file in files)
    if metadata and (about_images or not _has_classes(found.folders)):
        return listed(spec, metadata, root)
    if shards := list(_below(path, DEPTH)):
        return _shards(spec, path, shards, _has_classes(found.folders))
    listings = [file for file in found.others if is_listing(file) and file.name not in NO_LISTINGS]
    # Beside class folders a file that lists no images is about something else.
    if listings and _has_classes(found.folders):
        listings = [file for file in listings if lists_images(spec, file)]
    if listings:
        of_split = _by_split(spec, root, listings)
        if len(of_split.get(splits.ALL, ())) > 1:
            raise refused(
                spec, f"{' and '.join(file.name for file in listings[:4])} may both be meant: name one of them itself"
            )
        return listed(spec, of_split, root)
    if not found.folders and not found.has_images:
        for file in found.others:
            known = container(file)
            if known and file.suffix.lower() not in (".txt", ".yaml", ".yml", ".xml"):
                raise refused(spec, f"{file.name} is {known}")
    return image_folder(spec, root)


def _shards(spec: ImageSetSpec, root: Path, files: Sequence[Path], class_folders: bool) -> list[Split]:
    """The splits of parquet files or tars, which must be all that there is."""
    firsts = {_reader(file): file for file in reversed(files)}
    if len(firsts) > 1 or class_folders:
        both = [*(file.name for file in firsts.values()), *(["class folders of images"] if class_folders else [])]
        raise refused(spec, f"it holds {' and '.join(both)}: name the file or folder that is meant itself")
    reader = _reader(files[0])
    assert reader is not None
    return reader(spec, _by_split(spec, root, files), root)


# JSON files of other tools that may lie beside images.
NO_LISTINGS = frozenset({"dataset_infos.json", "dataset_info.json", "state.json", "class_names.json", "classes.json"})


def _has_classes(folders: Sequence[Path]) -> bool:
    """Whether folders are classes of images by themselves: two or more hold images, and not all are named like splits."""
    holding = [folder for folder in folders if listing(folder).has_images]
    if len(holding) > 1 and not all(splits.stands_for(folder.name) for folder in holding):
        return True
    return any(_has_classes(listing(folder).folders) for folder in folders if splits.stands_for(folder.name))


def _metadata(root: Path, folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Metadata files by split: of the root, or of the folders named like splits."""
    found = {splits.ALL: [root]} | {folder.name: [folder] for folder in folders if splits.stands_for(folder.name)}
    files = {name: [top / file for file in METADATA if (top / file).is_file()][:1] for name, (top,) in found.items()}
    return {splits.ALL: files[splits.ALL]} if files[splits.ALL] else {name: paths for name, paths in files.items() if paths}


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Parquet files and tars in a folder and those below it; class folders of images are not searched."""
    found = listing(folder)
    yield from (path for path in found.others if _reader(path) in (parquet, web_dataset))
    if depth > 1 and not found.has_images:
        for below in found.folders:
            yield from _below(below, depth - 1)


def _by_split(spec: ImageSetSpec, root: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names or folders name, of one configuration."""
    of_config: dict[str, list[Path]] = {}
    for file in files:
        of_config.setdefault(_config(file.relative_to(root)), []).append(file)
    return _named(spec, root, _one_config(spec, of_config))


def _named(spec: ImageSetSpec, root: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names or folders name."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_split_of(file.relative_to(root)), []).append(file)
    if len(found) == 1 and not any(splits.names_a_split(name) for name in found):
        found = {splits.ALL: list(files)}
    if splits.ALL in found and len(found) > 1:
        raise refused(
            spec,
            f"{found[splits.ALL][0].name} is not named after a split, and other files are "
            f"({', '.join(sorted(name for name in found if name != splits.ALL))}): name the file that is meant itself",
        )
    unnamed = found.get(splits.ALL, [])
    if len(unnamed) > 1 and any(splits.names_a_split(file.name) for file in unnamed):
        raise refused(
            spec,
            f"{', '.join(file.name for file in unnamed[:4])} may be splits: begin their names with the split's (test-...), "
            f"or name the file that is meant itself",
        )
    return found


def _config(relative: Path) -> str:
    """The configuration that a file's folders name: all but those of a split, and the usual data."""
    return "/".join(part for part in relative.parts[:-1] if part != "data" and not splits.stands_for(part)) or "default"


def _one_config(spec: ImageSetSpec, configs: Mapping[str, list[Path]]) -> list[Path]:
    if spec.config is not None and spec.config in configs:
        return configs[spec.config]
    if spec.config is None and len(configs) == 1:
        return next(iter(configs.values()))
    if spec.config is None and "default" in configs:
        return configs["default"]
    asked = f"no configuration '{spec.config}'" if spec.config else "several configurations"
    raise refused(
        spec, f'it has {asked} ({", ".join(sorted(configs))}): name one with config = "..." in a catalog file (--emt-catalog)'
    )


def _split_of(relative: Path) -> str:
    folder = next((part for part in reversed(relative.parts[:-1]) if splits.stands_for(part)), None)
    return folder or splits.of_file(relative.name) or splits.ALL


def _described(spec: ImageSetSpec, root: Path) -> list[Split] | None:
    """The splits that the dataset card of a hub's clone describes; None where it describes none."""
    configs = configurations(root)
    if not configs:
        return None
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    named = spec.config if spec.config in by_name else None
    if spec.config and not named:
        raise refused(spec, f"it has no configuration '{spec.config}' (it has {', '.join(sorted(by_name))})")
    default = [name for name, config in by_name.items() if config.get("default")]
    only = named or next(iter([*default, *(name for name in by_name if name == "default")]), None)
    if only is None and len(by_name) > 1:
        raise refused(
            spec,
            f'it has several configurations ({", ".join(sorted(by_name))}): name one with config = "..." in a catalog file '
            f"(--emt-catalog)",
        )
    config = by_name[only or next(iter(by_name))]
    files = _data_files(root / str(config.get("data_dir") or ""), config.get("data_files"))
    here = {name: paths for name, paths in files.items() if paths}
    readers = {_reader(path) for paths in here.values() for path in paths}
    reader = readers.pop() if len(readers) == 1 else None
    if reader is None:
        return None
    if list(files) == [splits.ALL]:
        return reader(spec, _named(spec, root, files[splits.ALL]), root)
    return reader(spec, here, root) + [Split(name, {}, partial(_absent, spec, name)) for name in files if name not in here]


def _absent(spec: ImageSetSpec, name: str) -> Table:
    raise refused(
        spec, f"README.md names a split '{name}' whose files are not here: fetch them, or name another by {splits.KEY}"
    )


def _data_files(root: Path, described: object) -> dict[str, list[Path]]:
    """The files of each split that a dataset card names by patterns."""
    if isinstance(described, str):
        entries = [(splits.ALL, [described])]
    elif isinstance(described, list):
        entries = [
            (str(entry.get("split", splits.ALL)), _patterns(entry.get("path"))) if isinstance(entry, dict)
            else (splits.ALL, _patterns(entry))
            for entry in described
        ]  # fmt: skip
    else:
        entries = []
    found: dict[str, list[Path]] = {}
    for split, patterns in entries:
        paths = (path for pattern in patterns if not pattern.startswith("/") for path in sorted(root.glob(pattern)))
        found.setdefault(split, []).extend(path for path in paths if path.is_file() and not ignored(path.name))
    return found


def _patterns(path: object) -> list[str]:
    return [path] if isinstance(path, str) else [str(entry) for entry in path] if isinstance(path, list) else []
