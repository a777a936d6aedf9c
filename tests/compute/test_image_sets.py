"""Image sets of every kind that is read, and what each broken one gets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from emt_plugin.catalog import Catalog, CatalogError, wordnet_words
from emt_plugin.data import load_image_set, load_train
from emt_plugin.data.image_set import pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store

NAMES = ["aquarium_fish", "bee", "cup"]


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def table(
    n: int = 12, image: str = "image", label: str = "label", names: list[str] | None = NAMES, **columns: Any
) -> datasets.Dataset:
    feature = datasets.ClassLabel(names=names) if names else datasets.Value("string")
    values = [index % len(NAMES) for index in range(n)] if names else [NAMES[index % len(NAMES)] for index in range(n)]
    features = datasets.Features({image: datasets.Image(), label: feature})
    rows = {image: [picture(index) for index in range(n)], label: values, **columns}
    return datasets.Dataset.from_dict(rows, features=features)


def load(path: Path, catalog: Catalog | None = None, **options: Any) -> Any:
    return load_image_set((catalog or Catalog.load()).image_set(str(path)), **options)


def user_catalog(folder: Path, text: str) -> Catalog:
    file = folder / "catalog.toml"
    file.write_text(text)
    return Catalog.load(file)


def test_halves_share_no_image_and_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    twice = datasets.concatenate_datasets([table(30), table(30).select(range(0, 30, 4))])
    twice.to_parquet(tmp_path / "birds.parquet")
    whole = load(tmp_path / "birds.parquet")
    assert len(whole.items) == 38
    different = list(dict.fromkeys(item.hash for item in whole.items))
    for which in (1, 2):
        half = whole.half(which)
        assert {item.hash for item in half.items} == set(different[which - 1 :: 2])
        assert [item for item in whole.items if item in half.items] == list(half.items)
        for limit in (3, 11, 30):
            shorter = load(tmp_path / "birds.parquet", limit=limit).half(which)
            assert list(shorter.items) == [item for item in half.items if item in whole.items[:limit]]
    assert len(whole.half(1).items) + len(whole.half(2).items) == 38
    with pytest.raises(CouldNotRun, match="makes no halves"):
        whole.first(1).half(2)


def test_a_parquet_file(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "birds.parquet")
    loaded = load(tmp_path / "birds.parquet")
    assert loaded.spec.id == "birds"
    assert loaded.labels == ("aquarium fish", "bee", "cup")
    assert loaded.n_split == 12
    assert loaded.question.prompt.endswith("Please only answer a single object in aquarium fish, bee, cup.")
    by_row = {item.row: item for item in loaded.items}
    assert by_row[4].label == 1
    assert by_row[4].hash == pixel_hash(picture(4))
    (image,) = loaded.images([by_row[4]])
    assert image.tobytes() == picture(4).tobytes()


def test_a_folder_of_parquet_with_splits_as_on_the_hub(tmp_path: Path) -> None:
    table(9).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    table(5).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    assert load(tmp_path).n_split == 9


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(3), "test": table(6)}).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").n_split == 6
    table(7).save_to_disk(tmp_path / "single")
    assert load(tmp_path / "single").n_split == 7


def test_an_image_folder(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("test", 3)):
        for name in NAMES:
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                picture(index + len(name)).save(folder / f"{index}.png")
    loaded = load(tmp_path / "pets")
    assert (loaded.n_split, loaded.labels, loaded.split) == (9, ("aquarium fish", "bee", "cup"), "test")


def test_class_folders_without_splits_are_one_split_of_all(tmp_path: Path) -> None:
    for name in NAMES:
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        picture(len(name)).save(folder / "a.png")
    assert load(tmp_path / "pets").split == "all"


def test_the_schema_of_cifar100(tmp_path: Path) -> None:
    made = table(image="img", label="fine_label").add_column("coarse_label", [0] * 12)
    made.to_parquet(tmp_path / "test.parquet")
    text = f'[image_sets.cifar100]\nsource = "{tmp_path}"\nlike = "cifar100"\nimage = "img"\nlabel = "fine_label"\n'
    with pytest.raises(CatalogError, match="is like itself"):  # an entry cannot be like itself
        user_catalog(tmp_path, text).image_set("cifar100")
    catalog = user_catalog(tmp_path, text.replace("image_sets.cifar100", "image_sets.small"))
    assert load_image_set(catalog.image_set("small")).labels == ("aquarium fish", "bee", "cup")


def test_labels_as_strings(tmp_path: Path) -> None:
    table(names=None).to_parquet(tmp_path / "a.parquet")
    loaded = load(tmp_path / "a.parquet")
    assert loaded.labels == ("aquarium fish", "bee", "cup")
    assert {item.row: item.label for item in loaded.items}[5] == 2


def test_wordnet_ids_become_words(tmp_path: Path) -> None:
    table(names=["n02116738", "n04612504", "n02108915"]).to_parquet(tmp_path / "test.parquet")
    catalog = user_catalog(tmp_path, f'[image_sets.m]\nsource = "{tmp_path}"\nlike = "miniimagenet"\n')
    loaded = load_image_set(catalog.image_set("m"))
    assert loaded.labels == ("African hunting dog", "yawl", "French bulldog")
    assert loaded.question.prompt.endswith("in African hunting dog, French bulldog, yawl.")
    assert len(wordnet_words()) == len(set(wordnet_words().values())) == 100


def test_the_subset_does_not_depend_on_the_order_in_the_file(tmp_path: Path) -> None:
    table(40).to_parquet(tmp_path / "a.parquet")
    table(40).select(list(range(39, -1, -1))).to_parquet(tmp_path / "b.parquet")
    first, second = load(tmp_path / "a.parquet", limit=10), load(tmp_path / "b.parquet", limit=10)
    assert [item.hash for item in first.items] == [item.hash for item in second.items]
    assert first.fingerprint == second.fingerprint
    assert [item.row for item in first.items] != list(range(10))
    larger = load(tmp_path / "a.parquet", limit=25)
    assert larger.items[:10] == first.items
    assert larger.fingerprint != first.fingerprint


def test_images_that_occur_twice_are_told_apart(tmp_path: Path) -> None:
    made = datasets.concatenate_datasets([table(6), table(6)])
    made.to_parquet(tmp_path / "a.parquet")
    items = load(tmp_path / "a.parquet").items
    assert len({(item.hash, item.occurrence) for item in items}) == 12
    assert {item.occurrence for item in items} == {0, 1}


def test_the_hash_is_of_the_pixels_not_of_the_encoding(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture(1).save(buffer, "BMP")
    assert pixel_hash(Image.open(buffer)) == pixel_hash(picture(1))
    assert pixel_hash(picture(1)) != pixel_hash(picture(1).rotate(90, expand=True))


def unreadable(folder: Path, how: str) -> Path:
    path = folder / "test.parquet"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    good = {"bytes": b"", "path": None}
    buffer = io.BytesIO()
    picture(0).save(buffer, "PNG")
    good["bytes"] = buffer.getvalue()
    rows: dict[str, Any] = {"image": [good] * 3, "label": [0, 1, 2]}
    match how:
        case "label":
            rows["label"] = [0, -1, 2]
        case "image":
            rows["image"] = [good, {"bytes": buffer.getvalue()[:40], "path": None}, good]
        case "empty":
            rows = {"image": [], "label": []}
        case "one class":
            features["label"] = datasets.ClassLabel(names=["bee"])
            rows["label"] = [0, 0, 0]
        case "column":
            features = datasets.Features({"picture": datasets.Image(), "label": features["label"]})
            rows["picture"] = rows.pop("image")
        case "torn":
            path.write_bytes(b"PAR1 and no more")
            return path
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("label", "row 1 has the label -1, outside its 3 labels"),
        ("image", "the image in row 1 does not decode"),
        ("empty", "the split 'test' is empty"),
        ("one class", r"has one class \('bee'\)"),
        ("column", r"has no column 'image' \(it has label, picture\)"),
        ("torn", "cannot be read"),
    ],
)
def test_a_broken_set_is_one_sentence(tmp_path: Path, how: str, says: str) -> None:
    path = unreadable(tmp_path, how)
    with pytest.raises(CouldNotRun, match=says) as caught:
        load(path if how == "torn" else tmp_path)
    assert "\n" not in str(caught.value)


def test_a_saved_set_of_one_split_has_no_training_images(tmp_path: Path) -> None:
    table(60).save_to_disk(tmp_path / "single")
    assert load_train(load(tmp_path / "single", limit=20), 50) is None
    datasets.DatasetDict({"train": table(30), "test": table(60).select(range(30, 60))}).save_to_disk(tmp_path / "both")
    train = load_train(load(tmp_path / "both"), 5)
    assert train is not None
    assert len(train.items) == 15


def test_the_index_of_a_set_is_remembered_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(12).to_parquet(tmp_path / "test.parquet")
    store = Store(tmp_path / "store")
    first = load(tmp_path, store=store)
    opened: list[str] = []
    real = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *arguments, **options: opened.append("") or real(*arguments, **options)
    )
    again = load(tmp_path, store=Store(tmp_path / "store"))
    assert again == first
    assert opened == []
    image = again.images(again.items[:1])[0]
    assert len(opened) == 1
    assert image.tobytes() == first.images(first.items[:1])[0].tobytes()
    table(13).to_parquet(tmp_path / "test.parquet")
    assert load(tmp_path, store=Store(tmp_path / "store")).n_split == 13


def test_a_missing_split_names_those_there(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(3), "extra": table(6)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(CouldNotRun, match=r"has no test split \(it has extra, train\): .* split = "):
        load(tmp_path / "saved")
    asked = user_catalog(tmp_path, f'[image_sets.s]\nsource = "{tmp_path}/saved"\nsplit = "test"\n')
    with pytest.raises(CouldNotRun, match=r"has no split 'test' \(it has extra, train\)"):
        load_image_set(asked.image_set("s"))


def test_a_hub_set_that_is_not_there_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CouldNotRun, match=r"mnist \(ylecun/mnist\) is not on this machine .* emt fetch mnist"):
        load_image_set(Catalog.load().image_set("mnist"))


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [
        ("mnist-mini", 4000, 1000, 10),
        ("fashion-mini", 6000, 2000, 10),
        ("digits-mini", 1297, 500, 10),
        ("emoji-mini", 616, 314, 14),
    ],
)
def test_the_bundled_sets(name: str, train: int, test: int, classes: int) -> None:
    spec = Catalog.load().image_set(name)
    loaded = load_image_set(spec)
    assert (loaded.n_split, len(loaded.labels)) == (test, classes)
    rows = datasets.load_dataset("parquet", data_files=f"{spec.source}/train.parquet", split="train")
    assert len(rows) == train
    if name == "emoji-mini":
        seen = {pixel_hash(image) for image in rows["image"]}
        assert len(seen) == train
        assert not seen & {item.hash for item in loaded.items}
