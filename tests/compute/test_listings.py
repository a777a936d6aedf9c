"""CSV, TSV and JSON lines of paths and labels, metadata files, and WebDataset tars."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog
from emt_plugin.data import load_image_set, load_train
from emt_plugin.data.image_set import pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store
from tests.compute.image_files import bundled, encoded, hashes, load

NAMES, ROWS = bundled("emoji-mini", 40)
EXPECTED = sorted(pixel_hash(image) for image, _ in ROWS[:20])


def images(root: Path, rows: Sequence[int] = range(20), folder: str = "images") -> list[dict[str, str]]:
    """Image files, and the rows that list them."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    listed = []
    for row in rows:
        ROWS[row][0].save(root / folder / f"{row}.png")
        listed.append({"file_name": f"{folder}/{row}.png", "label": NAMES[ROWS[row][1]]})
    return listed


def write(path: Path, rows: Sequence[dict[str, str]], **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    with path.open("w", newline="", encoding=options.get("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=options.get("delimiter", ","))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("labels.csv", {}),
        ("labels.csv", {"delimiter": ";", "encoding": "utf-8-sig"}),
        ("labels.tsv", {"delimiter": "\t"}),
        ("labels.jsonl", {}),
        ("metadata.csv", {}),
        ("metadata.jsonl", {}),
    ],
)
def test_a_file_of_paths_and_labels(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    root = tmp_path / "set"
    write(root / name, images(root), **options)
    loaded = load(root)
    assert (hashes(loaded), loaded.split, loaded.notes) == (EXPECTED, "all", ())
    by_row = {item.row: item for item in loaded.items}
    assert [loaded.labels[by_row[row].label] for row in range(20)] == [NAMES[label].replace("_", " ") for _, label in ROWS[:20]]
    assert hashes(load(root / name)) == EXPECTED


def test_columns_of_other_names_and_backslashes(tmp_path: Path) -> None:
    rows = [{"path": row["file_name"].replace("/", "\\"), "class": row["label"], "n": "1"} for row in images(tmp_path)]
    assert hashes(load(write(tmp_path / "a.csv", rows))) == EXPECTED
    both = [row | {"category": row["class"]} for row in rows]
    path = write(tmp_path / "b.csv", both)
    with pytest.raises(CouldNotRun, match="class and category may both hold its labels"):
        load(path)
    assert hashes(load(path, 'label = "category"')) == EXPECTED
    with pytest.raises(CouldNotRun, match=r"no column 'kind' \(it has"):
        load(path, 'label = "kind"')


def test_a_column_says_the_split(tmp_path: Path) -> None:
    rows = [row | {"split": "test" if index < 20 else "train"} for index, row in enumerate(images(tmp_path, range(40)))]
    path = write(tmp_path / "labels.csv", rows)
    loaded = load(path)
    assert (hashes(loaded), loaded.split) == (EXPECTED, "test")
    assert load(path, 'split = "train"').split == "train"
    usual = [{("data set" if key == "split" else key): value for key, value in row.items()} for row in rows]
    assert hashes(load(write(tmp_path / "usual.csv", usual))) == EXPECTED
    rows[3]["split"] = ""
    with pytest.raises(CouldNotRun, match=r"1 rows of labels\.csv say no split \(first: row 4\)"):
        load(write(path, rows))


def test_metadata_in_split_folders_and_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "each"
    for split, rows in (("train", range(20, 40)), ("test", range(20))):
        listed = images(root / split, rows, ".")
        write(root / split / "metadata.jsonl", listed)
    assert (hashes(load(root)), load(root).split) == (EXPECTED, "test")
    root = tmp_path / "one"
    write(root / "metadata.csv", images(root, range(20), "test") + images(root, range(20, 40), "train"))
    loaded = load(root)
    assert (hashes(loaded), loaded.split) == (EXPECTED, "test")
    train = load_train(loaded, 2)
    assert train is None or train.split == "train"
    write(root / "metadata.csv", images(root, range(20), "test") + images(root, range(20, 40), "more"))
    with pytest.raises(CouldNotRun, match="lie in the folder 'test' and others in none"):
        load(root)


def test_csv_files_named_after_splits(tmp_path: Path) -> None:
    write(tmp_path / "set/test.csv", images(tmp_path / "set", range(20), "a"))
    write(tmp_path / "set/train.csv", images(tmp_path / "set", range(20, 40), "b"))
    assert (hashes(load(tmp_path / "set")), load(tmp_path / "set").split) == (EXPECTED, "test")


def test_rows_and_files_are_counted_against_each_other(tmp_path: Path) -> None:
    rows = images(tmp_path / "set", range(21))
    path = write(tmp_path / "set/metadata.csv", rows[:20])
    assert load(tmp_path / "set").notes == ("1 image file without a row left out (first: 20.png)",)
    (tmp_path / "set/images/7.png").unlink()
    (tmp_path / "set/images/9.png").unlink()
    with pytest.raises(CouldNotRun, match=r"2 of 20 listed images are not there \(first: .*7\.png\)"):
        load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"images/0.png,cat\nimages/1.png,dog\n", "has no header"),
        (b"file_name,label\nimages/0.png,caf\xe9\n", "is not UTF-8"),
        (b"file_name,label\nimages/0.png,cat,dog\n", "row 1 of x.csv has 3 cells for 2 columns"),
        (b"file_name,label\nhttps://example.org/0.png,cat\n", "holds addresses"),
        (b"file_name,label\n,cat\n", "row 1 of x.csv has no path"),
        (b"file_name,label\nimages/0.png,cat\nimages/0.png,dog\n", "listed with two labels, 'cat' and 'dog'"),
        (b"file_name,label\n", "lists no image"),
        (b"", "lists no image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"file_name,label\nimages/0.png,\nimages/1.png,a\n", "has the label"),
        (b"name,kind\n0,1\n", r"has no column 'image' \(it has name, kind\)"),
    ],
)
def test_a_broken_listing_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    images(tmp_path)
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(CouldNotRun, match=says) as caught:
        load(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


def test_json_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"file_name": "a.png", "label": "cat"}\n[1, 2]\n')
    with pytest.raises(CouldNotRun, match="no list of JSON objects"):
        load(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"file_name": \n')
    with pytest.raises(CouldNotRun, match="no list of JSON objects"):
        load(tmp_path / "x.jsonl")


def test_a_listing_is_remembered_by_its_content_and_its_images(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", images(tmp_path))
    store = Store(tmp_path / "store")
    spec = Catalog.load().image_set(str(path))
    first = load_image_set(spec, store=store)
    assert load_image_set(spec, store=store) == first
    assert len(list((tmp_path / "store").rglob("*.jsonl"))) == 1
    ROWS[30][0].save(tmp_path / "images/3.png")
    assert hashes(load_image_set(spec, store=store)) != hashes(first)
    path.write_text(path.read_text().replace(f",{NAMES[ROWS[0][1]]}", ",something"))
    assert "something" in load_image_set(spec, store=store).labels


def tar(path: Path, rows: Sequence[int], kind: str = "cls", folder: str = "", ending: str = "png") -> Path:
    """A WebDataset shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for row in rows:
            image, label = ROWS[row]
            text = {"cls": str(label), "txt": NAMES[label], "json": json.dumps({"label": NAMES[label], "n": 1}), "": ""}[kind]
            options = {"lossless": True} if ending == "webp" else {}
            members = {ending: encoded(image, ending, **options)} | ({kind: text.encode()} if kind else {})
            for name, content in members.items():
                info = tarfile.TarInfo(f"{folder}{row:04}.{name}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


LISTED = f"labels = {list(NAMES)!r}".replace("'", '"')


@pytest.mark.parametrize(("kind", "ending"), [("cls", "png"), ("txt", "webp"), ("json", "png")])
def test_a_web_dataset(tmp_path: Path, kind: str, ending: str) -> None:
    path = tar(tmp_path / "birds.tar", range(40), kind, "some.folder/", ending)
    loaded = load(path, LISTED)
    assert (loaded.n_split, loaded.split) == (40, "all")
    assert hashes(loaded) == sorted(pixel_hash(image) for image, _ in ROWS)
    by_row = {item.row: item for item in loaded.items}
    assert [loaded.labels[by_row[row].label] for row in range(40)] == [NAMES[label].replace("_", " ") for _, label in ROWS]
    item = loaded.items[5]
    assert pixel_hash(loaded.images([item])[0]) == item.hash


def test_shards_of_splits(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part in range(2):
        tar(root / f"test-{part:06}.tar", range(10 * part, 10 * part + 10), "txt")
    tar(root / "train-000000.tar", range(20, 40), "txt")
    loaded = load(root)
    assert (hashes(loaded), loaded.split) == (EXPECTED, "test")
    store = Store(tmp_path / "store")
    spec = Catalog.load().image_set(str(root))
    assert load_image_set(spec, store=store) == load_image_set(spec, store=store)


def test_broken_shards_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"the sample '0000' has no label"):
        load(tar(tmp_path / "a.tar", range(3), ""))
    with pytest.raises(CouldNotRun, match="numbers without names"):
        load(tar(tmp_path / "b.tar", range(40), "cls"))
    (tmp_path / "c.tar").write_bytes(tar(tmp_path / "d.tar", range(3), "txt").read_bytes()[:1000])
    with pytest.raises(CouldNotRun, match=r"c\.tar is no plain tar or is torn"):
        load(tmp_path / "c.tar")
    with tarfile.open(tmp_path / "e.tar", "w") as file:
        file.add(write(tmp_path / "x.txt.csv", [{"a": "b"}]), "0.txt")
    with pytest.raises(CouldNotRun, match="the sample '0' has no images"):
        load(tmp_path / "e.tar")


def test_a_listing_wins_over_folders_and_another_csv_does_not(tmp_path: Path) -> None:
    root = tmp_path / "set"
    rows = images(root, range(20), "train_images") + images(root, range(20, 30), "test_images")
    write(root / "labels.csv", rows)
    assert "train images" not in load(root).labels
    write(root / "labels.csv", [{"class": "a", "colour": "red"}])
    loaded = load(root)
    assert loaded.labels == ("test images", "train images")
    assert loaded.notes == ("1 file is no image (first: labels.csv)",)


def test_metadata_without_labels_beside_class_folders(tmp_path: Path) -> None:
    root = tmp_path / "set"
    rows = images(root, range(5), "cat") + images(root, range(5, 9), "dog")
    write(root / "metadata.csv", [{"file_name": row["file_name"], "caption": "a picture"} for row in rows])
    assert load(root).labels == ("cat", "dog")


def test_two_listings_are_never_joined(tmp_path: Path) -> None:
    rows = images(tmp_path / "set", range(20))
    write(tmp_path / "set/a.csv", rows[:10])
    write(tmp_path / "set/b.csv", rows[10:])
    with pytest.raises(CouldNotRun, match=r"a\.csv and b\.csv may both be meant"):
        load(tmp_path / "set")
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(CouldNotRun, match="one JSON object, of a format that is not read"):
        load(tmp_path / "coco.json")


def test_shards_with_a_list_of_class_names(tmp_path: Path) -> None:
    tar(tmp_path / "set/test/0.tar", range(40))
    (tmp_path / "set/classnames.txt").write_text("\n".join(NAMES))
    loaded = load(tmp_path / "set")
    assert (loaded.split, loaded.labels) == ("test", tuple(name.replace("_", " ") for name in NAMES))
    by_row = {item.row: item.label for item in loaded.items}
    assert [by_row[row] for row in range(40)] == [label for _, label in ROWS]
