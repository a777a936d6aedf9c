"""Small pictures of the images that a report may show, made once and kept in the store."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

from emt_plugin.data import ImageSet
from emt_plugin.records import Row
from emt_plugin.store import Store, minor_versions

SIDE = 96


def write_thumbs(folder: Path, store: Store, image_set: ImageSet, rows: Sequence[Row]) -> None:
    """Write ``<image hash>.png`` into a folder for each of some rows.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = {"side": SIDE, "images": image_set.fingerprint, "packages": minor_versions("pillow")}
    shelf = store.shelf("thumbs", key, {"image_set": image_set.spec.id})
    items = {(item.hash, item.occurrence): item for item in image_set.items}
    new: dict[str, str] = {}
    for row in rows:
        if shelf.get(row.image) is None and row.image not in new:
            (image,) = image_set.images([items[row.image, row.occurrence]])
            image.thumbnail((SIDE, SIDE))
            content = io.BytesIO()
            image.save(content, "PNG")
            new[row.image] = base64.b64encode(content.getvalue()).decode()
    shelf.put(new)
    for row in rows:
        stored = shelf.get(row.image)
        path = folder / f"{row.image}.png"
        if stored is None or path.exists():
            continue
        # Workers may write the same image at the same time.
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(base64.b64decode(stored.value))
        os.replace(temporary, path)
