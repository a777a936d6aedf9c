"""Image sets of which a part is missing, whose labels are no names, or whose files are not what their names say."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emt_plugin.errors import CouldNotRun
from tests.compute.image_files import bundled, encoded, load, parquet

NAMES, ROWS = bundled("emoji-mini", 40)


def classes(root: Path, *names: str, file: str = "{}.png", images: int = 2) -> Path:
    for position, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(images):
            image = ROWS[position * images + index][0]
            (root / name / file.format(index)).write_bytes(encoded(image))
    return root


def test_a_split_whose_files_are_not_all_there_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "set/data/test-00000-of-00002.parquet", ROWS[:20], NAMES)
    with pytest.raises(CouldNotRun, match=r"1 of the 2 files of the split 'test' is here.*: fetch the rest"):
        load(tmp_path / "set")
    assert load(tmp_path / "set/data/test-00000-of-00002.parquet").n_split == 20
    parquet(tmp_path / "set/data/test-00001-of-00002.parquet", ROWS[20:], NAMES)
    parquet(tmp_path / "set/data/train-00000-of-00009.parquet", ROWS[20:], NAMES)
    assert load(tmp_path / "set").n_split == 40


def test_wordnet_ids_that_are_known_are_shown_as_words(tmp_path: Path) -> None:
    loaded = load(classes(tmp_path / "set/val", "n01532829", "n01558993").parent)
    assert loaded.labels == ("house finch", "robin")
    assert any("n01532829: house finch" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("n01440764", "n01443537"), r"WordNet ids without names \(n01440764, n01443537\): name them, in their order"),
        (("n01532829", "n01443537"), "WordNet ids without names"),
        (("class_0", "class_1"), r"numbers without names \(class_0, class_1\).*names = .numbers."),
        (("Class 1", "Class 2"), "numbers without names"),
    ],
)
def test_labels_that_stand_for_names_are_refused(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(CouldNotRun, match=says):
        load(classes(tmp_path / "set", *names))


@pytest.mark.parametrize("names", [("n01443537", "n01440764"), ("class_1", "class_0"), ("class_10", "class_9")])
def test_labels_in_a_catalog_name_them_in_their_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = classes(tmp_path / "set", *names)
    if names[1] == "class_9":
        with pytest.raises(CouldNotRun, match="from 0 or from 1"):
            load(root, 'labels = ["tench", "goldfish"]')
        return
    loaded = load(root, 'labels = ["tench", "goldfish"]')
    assert loaded.labels == ("tench", "goldfish")
    first = min(loaded.items, key=lambda item: item.row)
    assert (first.label, first.hash) == (
        0,
        next(item.hash for item in load(root, 'names = "numbers"').items if item.row == first.row),
    )


def test_names_in_words_are_no_codes(tmp_path: Path) -> None:
    assert load(classes(tmp_path / "set", "class 1", "first class")).labels == ("class 1", "first class")


@pytest.mark.parametrize(
    ("folder", "file", "says"),
    [
        ("a/b", "{}.png", "its images lie deeper, in .*/a/b/cat: name the folder that holds"),
        ("", "{}", r"names without the ending of an image \(cat/0\)"),
        ("", "{}.dat", r"names without the ending of an image \(cat/0.dat\)"),
    ],
)
def test_images_that_are_there_are_not_said_to_be_missing(tmp_path: Path, folder: str, file: str, says: str) -> None:
    root = tmp_path / "set"
    classes(root / folder, "cat", "dog", file=file)
    if folder:
        classes(root / "a/c", "cat", "dog", file=file)
    with pytest.raises(CouldNotRun, match=says):
        load(root)


def test_a_class_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", "cat", "dog")
    os.rename(os.fsencode(root / "dog"), os.fsencode(root) + b"/caf\xe9")
    with pytest.raises(CouldNotRun, match="is not UTF-8: rename it"):
        load(root)


def test_a_label_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match="has no word by which an answer could name it"):
        load(classes(tmp_path / "set", "cat", "🐱"))


def test_a_file_that_two_classes_have_is_told(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", "cat", "dog", "bird")
    (root / "dog/again.png").write_bytes((root / "cat/0.png").read_bytes())
    assert "1 file is in two classes, the same to the byte" in load(root).notes


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([[{"bytes": b"x", "path": "a"}]] * 2, "holds lists of images"),
        ([{"data": b"x"}] * 2, "holds structs of data without bytes or path"),
        ([[1, 2]] * 2, "holds lists of numbers"),
    ],
)
def test_columns_that_hold_no_image_files_are_called_what_they_are(tmp_path: Path, column: list[object], says: str) -> None:
    pq.write_table(pa.table({"image": column, "label": ["cat", "dog"]}), tmp_path / "test.parquet")
    with pytest.raises(CouldNotRun, match=says):
        load(tmp_path / "test.parquet")


def test_shards_whose_columns_differ_say_so(tmp_path: Path) -> None:
    for number, columns in enumerate(({}, {"extra": ["x", "y"]})):
        rows = {"image": [encoded(ROWS[0][0]), encoded(ROWS[1][0])], "label": ["cat", "dog"], **columns}
        pq.write_table(pa.table(rows), tmp_path / f"test-0000{number}-of-00002.parquet")
    with pytest.raises(CouldNotRun, match="Couldn't cast"):
        load(tmp_path)


def test_listings_of_old_line_ends_and_of_rows_that_come_again(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", "cat", "dog")
    rows = ["path,label", *(f"{name}/{index}.png,{name}" for name in ("cat", "dog") for index in range(2)), "cat/0.png,cat"]
    (tmp_path / "set/labels.csv").write_bytes("\r".join(rows).encode())
    loaded = load(root / "labels.csv")
    assert loaded.n_split == 5
    assert "1 row of images that are listed before count once more" in loaded.notes
