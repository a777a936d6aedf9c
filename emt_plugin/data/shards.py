"""WebDataset tars: a sample is the files of one name up to its first dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data.card import NOTE, facts, with_names
from emt_plugin.data.columns import label_column
from emt_plugin.data.formats import IMAGES, ignored
from emt_plugin.data.source import LFS, Split, Table, all_there, brief, by_name, not_a_pointer, refused

LABELS = ("cls", "label", "json", "txt")


@dataclass(frozen=True)
class Member:
    """Where a file lies in a tar."""

    tar: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes."""
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def web_dataset(spec: ImageSetSpec, files: Mapping[str, Sequence[Path]], root: Path) -> list[Split]:
    """The splits of WebDataset shards.

    Args:
        spec: the image set.
        files: shards by split.
        root: the folder of the image set.
    """
    return [
        Split(name, by_name(paths, root), partial(_read, spec, sorted(paths), root), facts(root))
        for name, paths in files.items()
    ]


def _read(spec: ImageSetSpec, shards: Sequence[Path], root: Path) -> Table:
    if len(shards) > 1 or Path(spec.source) not in shards:
        all_there(spec, shards)
    samples = [sample for shard in shards for sample in _samples(spec, shard)]
    images, values = [], []
    for key, members in samples:
        found = [member for ending, member in members.items() if f".{ending}" in IMAGES]
        if len(found) != 1:
            raise refused(spec, f"the sample '{key}' has {len(found) or 'no'} images: a sample of a WebDataset has one here")
        images.append(found[0])
        values.append(_label(spec, key, members))

    def encoded(row: int) -> bytes:
        content = images[row].read()
        if content.startswith(LFS):
            raise refused(spec, f"{images[row].name} is a Git LFS pointer, not the file itself: run git lfs pull")
        return content

    numbers = [int(value) for value in values if isinstance(value, int) or (isinstance(value, str) and value.isdecimal())]
    names = with_names(root, spec.label, spec.config, numbers) if len(numbers) == len(values) else None
    return Table(
        values=numbers if names else values,
        names=names,
        encoded=encoded,
        where=lambda row: f"the image {images[row].name} in {images[row].tar.name}",
        notes=(NOTE,) if names else (),
    )


def _samples(spec: ImageSetSpec, shard: Path) -> list[tuple[str, dict[str, Member]]]:
    """The samples of a shard in its order: their names and their files by ending."""
    not_a_pointer(spec, shard)
    samples: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for info in tar:
                path = PurePosixPath(info.name)
                if not info.isfile() or ignored(path.name):
                    continue
                stem, _, ending = path.name.partition(".")
                key = str(path.parent / stem)
                sample = samples.setdefault(key, {})
                if ending.lower() in sample:
                    raise refused(spec, f"{shard.name} has two files {info.name}: give each sample its own name")
                sample[ending.lower()] = Member(shard, info.name, info.offset_data, info.size)
    except (tarfile.TarError, EOFError) as error:
        raise refused(spec, f"{shard.name} is no plain tar or is torn ({brief(error)})") from None
    return list(samples.items())


def _label(spec: ImageSetSpec, key: str, members: Mapping[str, Member]) -> object:
    own = [spec.label.lower()] if spec.label.lower() in members else []
    ending = next((ending for ending in [*own, *LABELS] if ending in members), None)
    if ending is None:
        raise refused(spec, f"the sample '{key}' has no label: a .cls, .txt or .json file beside its image")
    try:
        text = members[ending].read().decode("utf-8-sig").strip()
        if ending != "json":
            return text
        found = json.loads(text)
    except ValueError as error:
        raise refused(spec, f"the label of the sample '{key}' cannot be read ({brief(error)})") from None
    return found[label_column(spec, list(found))] if isinstance(found, dict) else found
