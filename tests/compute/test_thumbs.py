"""Pictures for the report: photos small, drawings without loss, each readable as what it says it is."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from emt_plugin.catalog import Catalog
from emt_plugin.data import load_image_set
from emt_plugin.evaluation.thumbs import LARGE_PNG, SIDE, write_thumbs
from emt_plugin.records import Row
from emt_plugin.store import Store


def test_photos_are_webp_and_drawings_png(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    drawing = Image.new("RGB", (28, 28), "red")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["photo", "drawing"])})
    made = datasets.Dataset.from_dict({"image": [noise, drawing], "label": [0, 1]}, features=features)
    made.to_parquet(tmp_path / "test.parquet")
    images = load_image_set(Catalog.load().image_set(str(tmp_path / "test.parquet")))
    rows = [Row(i.row, i.hash, i.occurrence, i.label, "", None, False, None, None, {}, None) for i in images.items]
    for _ in range(2):
        write_thumbs(tmp_path / "thumbs", Store(tmp_path / "store"), images, rows)
    photo, sketch = ({item.label: item.hash for item in images.items}[label] for label in (0, 1))
    assert sorted(path.name for path in (tmp_path / "thumbs").iterdir()) == sorted([f"{photo}.webp", f"{sketch}.png"])
    with Image.open(tmp_path / "thumbs" / f"{photo}.webp") as found:
        assert (found.format, found.size) == ("WEBP", (SIDE, SIDE * 2 // 3))
    with Image.open(tmp_path / "thumbs" / f"{sketch}.png") as found:
        assert (found.format, found.getpixel((3, 3))) == ("PNG", (255, 0, 0))
    assert (tmp_path / "thumbs" / f"{sketch}.png").stat().st_size <= LARGE_PNG
