"""What every reader of images and labels yields: the splits of a source, and the rows of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store, file_hash

# test-00000-of-00001-0a1b2c, as the hub names the files of any split.
SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(-[0-9a-f]+)?")
LFS = b"version https://git-lfs"
# Hashes of smaller files are not remembered: to look one up takes as long as to read it.
LARGE_FILE = 1 << 24


@dataclass(frozen=True)
class Table:
    """The rows of one split.

    Attributes:
        values: the label of each row: an index into ``names``, or what the data have; None for none.
        names: label names in the order of their index; None where the values are the names.
        encoded: the bytes of a row's image file.
        where: what a message calls a row.
        notes: what a reader of the results should know.
        classes_are_folders: the label names are names of folders.
        whole: all that decides the images lies in the files of the split.
    """

    values: Sequence[object]
    names: tuple[str, ...] | None
    encoded: Callable[[int], bytes]
    where: Callable[[int], str] = field(default=lambda row: f"the image in row {row}")
    notes: tuple[str, ...] = ()
    classes_are_folders: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Split:
    """One split of a source, not yet read.

    Attributes:
        name: its name; ``all`` for data without split names.
        files: what holds its images and labels, by name within the source.
        read: reads it.
        facts: what decides its rows besides the content of the files.
        notes: what a reader of the results should know of the choice.
    """

    name: str
    files: Mapping[str, Path]
    read: Callable[[], Table]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def content(self, store: Store | None = None) -> str:
        """sha256 over the names and contents of its files.

        Raises:
            OSError: one cannot be read.
        """
        digest = sha256()
        for name, path in sorted(self.files.items()):
            kept = store if path.stat().st_size >= LARGE_FILE else None
            digest.update(f"{name}\0{file_hash(path, kept)}\n".encode())
        return digest.hexdigest()


def refused(spec: ImageSetSpec, why: str) -> CouldNotRun:
    """What is raised for an image set that cannot be read."""
    return CouldNotRun(f"image set {spec.id}: {why}")


def brief(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def not_a_pointer(spec: ImageSetSpec, path: Path) -> Path:
    """The file.

    Raises:
        CouldNotRun: it is a Git LFS pointer, which stands for a file that was not fetched.
    """
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise refused(spec, f"{path.name} is a Git LFS pointer, not the file itself: run git lfs pull in {path.parent}")
    return path


def all_there(spec: ImageSetSpec, files: Iterable[Path]) -> None:
    """Check that of files named ``test-00000-of-00002`` none of the split is missing.

    Raises:
        CouldNotRun: one is.
    """
    of_split: dict[tuple[str, int], set[str]] = {}
    for file in files:
        if found := SHARD.fullmatch(file.stem):
            of_split.setdefault((found[1], int(found[3])), set()).add(found[2])
    for (name, count), there in of_split.items():
        if len(there) < count:
            verb = "is" if len(there) == 1 else "are"
            raise refused(
                spec,
                f"{len(there)} of the {count} files of the split '{name}' {verb} here, by their names (-of-{count:05d}): "
                f"fetch the rest, or name one file itself",
            )


def by_name(files: Iterable[Path], root: Path) -> dict[str, Path]:
    """Files by their names relative to a folder."""
    above = f"{root}/"
    return {str(path).removeprefix(above): path for path in files}
