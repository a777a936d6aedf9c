"""Image folders: a folder for each class, in a folder for each split or in none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data import splits
from emt_plugin.data.formats import foreign, ignored, is_image
from emt_plugin.data.source import Split, Table, by_name, not_a_pointer, refused

RENAME = "rename them, or move the splits into folders of their own"


@dataclass(frozen=True)
class Listing:
    """What lies in one folder, by kind, in order of name.

    Attributes:
        path: the folder.
        folders: folders in it.
        images: image files that are read.
        unread: images in formats that are not read.
        others: other files.
    """

    path: Path
    folders: tuple[Path, ...]
    images: tuple[Path, ...]
    unread: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def has_images(self) -> bool:
        """Whether images lie in it, read or not."""
        return bool(self.images or self.unread)


def listing(folder: Path) -> Listing:
    """What lies in a folder, without an operating system's own files."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not ignored(entry.name)), key=lambda entry: entry.name)
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    files = [Path(entry.path) for entry in entries if not entry.is_dir()]
    images = [path for path in files if is_image(path)]
    rest = [path for path in files if not is_image(path)] if len(images) < len(files) else []
    unread = [path for path in rest if foreign(path)]
    return Listing(folder, tuple(folders), tuple(images), tuple(unread), tuple(path for path in rest if not foreign(path)))


@dataclass(frozen=True)
class Classes:
    """The class folders of one split.

    Attributes:
        name: of the split.
        top: the folder they lie in.
        folders: those that hold images.
        empty: those that hold none.
    """

    name: str
    top: Listing
    folders: tuple[Listing, ...]
    empty: tuple[Listing, ...]


def image_folder(spec: ImageSetSpec, root: Path) -> list[Split]:
    """The splits of a folder of images.

    Raises:
        CouldNotRun: it is none, or what its folders are is not clear.
    """
    top = listing(root)
    found = _splits(spec, top)
    names = sorted({folder.path.name for split in found for folder in split.folders})
    for name in names:
        if any("\ud800" <= sign <= "\udfff" for sign in name):
            raise refused(
                spec, f"the name of the class folder {name.encode('utf-8', 'replace').decode()!r} is not UTF-8: rename it"
            )
    if not names:
        raise refused(spec, _no_images(root, top))
    for split in found:
        for folder in (*split.folders, *split.empty):
            _flat(spec, root, folder)
    return [_split(spec, root, split, names) for split in found]


def _splits(spec: ImageSetSpec, top: Listing) -> list[Classes]:
    inside = {folder: listing(folder) for folder in top.folders}
    below = {
        folder: _classes(folder.name, found, [listing(path) for path in found.folders])
        for folder, found in inside.items()
        if splits.stands_for(folder.name)
    }
    with_classes = [folder for folder, found in below.items() if found.folders]
    others = [folder for folder, found in inside.items() if folder not in below and _holds_something(found)]
    if not with_classes:
        if below and not others and all(inside[folder].has_images for folder in below):
            raise refused(
                spec,
                f"the folders {_named(below)} may be splits or classes: put a split's images into a folder for each class, "
                f"or list them with their labels in a metadata.csv",
            )
        return [_classes(splits.ALL, top, list(inside.values()))]
    if others:
        raise refused(
            spec,
            f"{_named(with_classes)} {'is' if len(with_classes) == 1 else 'are'} named like splits and hold class folders, but "
            f"lie beside {_named(others)}: {RENAME}",
        )
    mixed = [folder for folder in below if inside[folder].has_images]
    if mixed:
        raise refused(spec, f"images lie in {_named(mixed)} beside or without class folders: {RENAME}")
    return [below[folder] for folder in with_classes]


def _classes(name: str, top: Listing, found: Sequence[Listing]) -> Classes:
    return Classes(
        name,
        top,
        tuple(folder for folder in found if folder.has_images),
        tuple(folder for folder in found if not folder.has_images),
    )


def _holds_something(found: Listing) -> bool:
    """Whether a folder holds images, at most one folder down."""
    return found.has_images or any(listing(folder).has_images for folder in found.folders)


def _flat(spec: ImageSetSpec, root: Path, folder: Listing) -> None:
    deeper = [below for below in folder.folders if _holds_something(listing(below))]
    if deeper:
        raise refused(
            spec,
            f"the class folder {folder.path.relative_to(root)} holds folders ({_named(deeper)}): "
            f"put the images of a class into one folder",
        )


def _split(spec: ImageSetSpec, root: Path, split: Classes, names: Sequence[str]) -> Split:
    files = [image for folder in split.folders for image in folder.images]
    notes = [*_left_out(root, split), *_without_images(split, names)]
    return Split(
        split.name,
        by_name(files, root),
        partial(_read, spec, root, split, names, tuple(notes)),
        {"classes": list(names), "notes": notes},
    )


def _read(spec: ImageSetSpec, root: Path, split: Classes, names: Sequence[str], notes: tuple[str, ...]) -> Table:
    unread = Counter(foreign(path) for folder in split.folders for path in folder.unread)
    if unread:
        raise refused(spec, f"{unread_in_words(unread)} not read: save them as PNG or JPEG")
    files = [(image, names.index(folder.path.name)) for folder in split.folders for image in folder.images]
    return Table(
        values=[label for _, label in files],
        names=tuple(names),
        encoded=lambda row: not_a_pointer(spec, files[row][0]).read_bytes(),
        where=lambda row: f"the image {files[row][0].relative_to(root)}",
        notes=notes,
        classes_are_folders=True,
    )


def unread_in_words(unread: Counter[str | None]) -> str:
    """How many images are of formats that are not read."""
    one = sum(unread.values()) == 1
    return (
        " and ".join(f"{count:,} {name} image{'' if count == 1 else 's'}" for name, count in sorted(unread.items(), key=str))
        + (" is" if one else " are")
    )  # fmt: skip


def _left_out(root: Path, split: Classes) -> list[str]:
    notes = []
    beside = [*split.top.images, *split.top.unread]
    if beside:
        notes.append(f"{_counted(beside, 'image')} beside the class folders left out (first: {beside[0].relative_to(root)})")
    others = [*split.top.others, *(path for folder in (*split.folders, *split.empty) for path in folder.others)]
    if others:
        notes.append(f"{_counted(others, 'file')} no image (first: {others[0].relative_to(root)})")
    return notes


def _without_images(split: Classes, names: Sequence[str]) -> list[str]:
    empty = [folder.path.name for folder in split.empty if folder.path.name not in names]
    missing = [name for name in names if name not in {folder.path.name for folder in split.folders}]
    notes = [f"left out, for no image is in them: {_shortened(empty)}"] if empty else []
    return [*notes, f"classes without an image in this split: {_shortened(missing)}"] if missing else notes


def _no_images(root: Path, top: Listing) -> str:
    if top.has_images:
        return (
            f"{root} holds images without class folders: put them into a folder for each class, "
            f"or list them with their labels in a metadata.csv"
        )
    deeper = next((folder for folder in _below(root, 4) if listing(folder).has_images), None)
    if deeper:
        return f"its images lie deeper, in {deeper}: name the folder that holds a folder of images for each class"
    unnamed = next((path for path in _files(root) if _is_unnamed_image(path)), None)
    if unnamed:
        where = unnamed.relative_to(root)
        return f"its images have names without the ending of an image ({where}): give them theirs, as .png or .jpg"
    return f"{root} holds no images: name a folder with a folder of images for each class"


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for found in listing(folder).folders if depth else ():
        yield found
        yield from _below(found, depth - 1)


def _files(root: Path) -> Iterator[Path]:
    """The first files of a folder and of each below it."""
    for folder in (root, *_below(root, 4)):
        yield from listing(folder).others[:3]


def _is_unnamed_image(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path):
            return True
    except (UnidentifiedImageError, OSError, ValueError):
        return False


def _counted(files: Sequence[Path], what: str) -> str:
    return f"1 {what} is" if len(files) == 1 else f"{len(files):,} {what}s are"


def _named(folders: Iterable[Path]) -> str:
    return _shortened([f"'{folder.name}'" for folder in folders])


def _shortened(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
