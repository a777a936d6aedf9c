"""Small pictures of the images that a report may show, made once and kept in the store."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from emt_plugin.data import ImageSet
from emt_plugin.records import Row
from emt_plugin.store import Store, minor_versions

SIDE = 96
# A photo is several times smaller in WebP, and a drawing smaller and sharper in PNG.
LARGE_PNG = 4096
WEBP_QUALITY = 80


def write_thumbs(folder: Path, store: Store, image_set: ImageSet, rows: Sequence[Row]) -> None:
    """Write ``<image hash>.png`` or ``.webp`` into a folder for each of some rows.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = {"side": SIDE, "large_png": LARGE_PNG, "images": image_set.fingerprint, "packages": minor_versions("pillow")}
    shelf = store.shelf("thumbs", key, {"image_set": image_set.spec.id})
    items = {(item.hash, item.occurrence): item for item in image_set.items}
    new: dict[str, str] = {}
    for row in rows:
        if shelf.get(row.image) is None and row.image not in new:
            (image,) = image_set.images([items[row.image, row.occurrence]])
            image.thumbnail((SIDE, SIDE))
            new[row.image] = base64.b64encode(_encoded(image)).decode()
    shelf.put(new)
    for row in rows:
        stored = shelf.get(row.image)
        if stored is None:
            continue
        content = base64.b64decode(stored.value)
        path = folder / f"{row.image}.{'webp' if content.startswith(b'RIFF') else 'png'}"
        if path.exists():
            continue
        # Workers may write the same image at the same time.
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        os.replace(temporary, path)


def _encoded(image: Image.Image) -> bytes:
    """A picture, without loss where that takes little."""
    content = io.BytesIO()
    image.save(content, "PNG")
    if content.tell() > LARGE_PNG:
        content = io.BytesIO()
        image.save(content, "WEBP", quality=WEBP_QUALITY)
    return content.getvalue()
