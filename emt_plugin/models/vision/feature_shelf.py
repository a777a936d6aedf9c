"""What a vision tower made of images, kept on a shelf of the store: one safetensors file for each batch."""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emt_plugin.store import Store, prune, shelves
from emt_plugin.store.byte_sizes import words
from emt_plugin.store.files import write_atomically

# Images of the last batches stay in memory: the encoder asks for what the model has just seen.
RECENT = 64


# What a tower made of some images by name, each images x ...; or of one image, without the first dimension.
Tensors = Mapping[str, torch.Tensor]


class FeatureShelf:
    """Features by content hash of the image.

    Args:
        store: where they are kept; in its mode ``off`` only recent ones are, in memory.
        key: everything that determines them.
        about: names for people.
    """

    def __init__(self, store: Store, key: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        self._store = store
        self._path = store.place("features", key)
        self._facts = {"kind": "features", "key": dict(key), "about": dict(about or {})}
        self._recent: OrderedDict[str, Tensors] = OrderedDict()
        self._on_disk: dict[str, tuple[Path, int]] = {}
        # Bytes that all features in the store take, as far as this process knows.
        self._taken: int | None = None
        self._full = False
        if store.mode == "use" and self._path.is_dir():
            for file in sorted(self._path.glob("*.safetensors")):
                self._index(file)

    def get(self, image: str) -> Tensors | None:
        """The features of one image, on the CPU, without the first dimension; None where there are none."""
        if image in self._recent:
            return self._recent[image]
        place = self._on_disk.get(image)
        return None if place is None else _read(*place)

    def put(self, images: Sequence[str], features: Tensors) -> None:
        """Keep the features of some images."""
        kept = {name: value.cpu().contiguous() for name, value in features.items()}
        for row, image in enumerate(images):
            self._recent[image] = {name: value[row] for name, value in kept.items()}
            self._recent.move_to_end(image)
        while len(self._recent) > max(RECENT, len(images)):
            self._recent.popitem(last=False)
        if self._store.writes and self._has_room():
            self._write(images, kept)

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._recent.clear()

    def _has_room(self) -> bool:
        """Whether features may still be kept; where they take too much, shelves not used for longest make room first."""
        most = self._store.most_bytes
        if most is None or self._full:
            return not self._full
        if self._taken is None or self._taken > most:
            prune(self._store.folder, most_bytes=most, kinds={"features"}, spared=self._path)
            self._taken = sum(shelf.size for shelf in shelves(self._store.folder) if shelf.kind == "features")
        self._full = self._taken > most
        if self._full:
            self._store.say(f"vision features fill the {words(most)} that they may take: keep more with --emt-store-size")
        return not self._full

    def _write(self, images: Sequence[str], kept: dict[str, torch.Tensor]) -> None:
        from safetensors.torch import save

        content = save(kept, metadata={"images": json.dumps(list(images))})
        file = self._path / f"{secrets.token_hex(8)}.safetensors"
        try:
            self._store.open_shelf(self._path, self._facts)
            write_atomically(file, content)
        except OSError as error:
            self._store.give_up(error)
            return
        self._taken = (self._taken or 0) + len(content)
        self._on_disk.update({image: (file, row) for row, image in enumerate(images)})

    def _index(self, file: Path) -> None:
        from safetensors import safe_open

        try:
            with safe_open(file, framework="pt") as opened:
                images = json.loads(opened.metadata()["images"])
        except Exception:  # A file that is gone or damaged is one that has to be computed again.
            return
        self._on_disk.update({image: (file, row) for row, image in enumerate(images)})


def _read(file: Path, row: int) -> Tensors | None:
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_slice(name)[row] for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
    except Exception:  # As above.
        return None
