"""Which images are evaluated: never others than the user thinks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emt_plugin.catalog import Catalog, ImageSetSpec
from emt_plugin.data import load_image_set, load_train
from emt_plugin.data.image_set import pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store
from tests.compute.image_files import bundled, class_folders, encoded, files_in, hashes, load, parquet

NAMES, ROWS = bundled("emoji-mini", 40)
VALIDATION = "it has no test split: its {} split is evaluated"


def one_class(root: Path, *names: str, images: int = 2) -> Path:
    """Class folders with different images."""
    for position, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(images):
            ROWS[(position * images + index) % len(ROWS)][0].save(folder / f"{index}.png")
    return root


def test_words_in_file_names_decide_nothing(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "digits", "mnist-mini", n=40, file="{}.png")
    for path in sorted(root.rglob("*.png"))[::8]:
        path.rename(path.with_name(f"scan-test-{path.name}"))
    loaded = load(root, like="mnist")
    assert (loaded.n_split, len(loaded.labels), loaded.split) == (40, 10, "all")


@pytest.mark.parametrize("name", ["test", "train", "val", "Testing"])
def test_a_class_named_like_a_split_stays_a_class(tmp_path: Path, name: str) -> None:
    loaded = load(one_class(tmp_path / "set", name, "plane", "ship"))
    assert (loaded.n_split, set(loaded.labels)) == (6, {name, "plane", "ship"})


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["train", "test"], "may be splits or classes"),
        (["test/cat", "test/dog", "plane"], "'test' is named like splits .* beside 'plane'"),
        (["test/cat", "test/dog", "extra/cat"], "'test' is named like splits .* beside 'extra'"),
        (["test/cat", "train"], "images lie in 'train'"),
        (["train/cat", "train/dog"], r"no test split \(it has train\)"),
        (["train/cat", "extra/cat"], "'train' is named like splits"),
        (["val/cat", "valid/cat", "val/dog"], "the splits val and valid may both be meant"),
        (["cat/small", "cat/large", "dog"], "the class folder cat holds folders .* one folder"),
        (["test/cat/a", "test/cat", "test/dog"], "the class folder test/cat holds folders"),
    ],
)
def test_folders_whose_meaning_is_not_clear_are_refused(tmp_path: Path, folders: list[str], says: str) -> None:
    root = one_class(tmp_path / "set", *folders)
    with pytest.raises(CouldNotRun, match=says) as caught:
        load(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folders", "split", "notes"),
    [
        (("train", "test"), "test", ()),
        (("Train", "Test"), "Test", ()),
        (("training", "testing", "validation"), "testing", ()),
        (("train", "val"), "val", (VALIDATION.format("val"),)),
        (("dev",), "dev", (VALIDATION.format("dev"),)),
    ],
)
def test_split_folders(tmp_path: Path, folders: tuple[str, ...], split: str, notes: tuple[str, ...]) -> None:
    for count, name in enumerate(folders, 1):
        one_class(tmp_path / "set" / name, "cat", "dog", images=count)
    loaded = load(tmp_path / "set")
    assert (loaded.split, loaded.n_split, loaded.notes) == (split, 2 * (folders.index(split) + 1), notes)


def test_classes_are_those_of_all_splits_and_training_images_go_with_them(tmp_path: Path) -> None:
    one_class(tmp_path / "set/test", "bee", "dog")
    one_class(tmp_path / "set/train", "ant", "bee", "dog", images=6)
    loaded = load(tmp_path / "set")
    assert loaded.labels == ("ant", "bee", "dog")
    assert {item.label for item in loaded.items} == {1, 2}
    assert loaded.notes == ("classes without an image in this split: ant",)
    train = load_train(loaded, 2)
    assert train is not None
    assert (train.split, len(train.items)) == ("train", 6)
    assert not set(hashes(train)) & set(hashes(loaded))


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    root = one_class(tmp_path / "set", "cat", "dog")
    (root / "empty").mkdir()
    (root / "cat/notes.txt").write_text("of a cat")
    (root / "cat/.DS_Store").write_text("")
    (root / "dog/Thumbs.db").write_text("")
    shutil.copytree(root / "cat", root / "__MACOSX" / "cat")
    shutil.copy(root / "cat/0.png", root / "beside.png")
    loaded = load(root)
    assert (loaded.n_split, loaded.labels) == (4, ("cat", "dog"))
    assert loaded.notes == (
        "1 image is beside the class folders left out (first: beside.png)",
        "1 file is no image (first: cat/notes.txt)",
        "left out, for no image is in them: empty",
    )


@pytest.mark.parametrize(
    ("file", "says"),
    [("x.heic", "1 HEIC image is not read"), ("x.DCM", "1 DICOM image"), ("x.svg", "1 SVG image"), ("x.nef", "1 camera raw")],
)
def test_image_formats_that_are_not_read_are_named(tmp_path: Path, file: str, says: str) -> None:
    root = one_class(tmp_path / "set", "cat", "dog")
    (root / "cat" / file).write_bytes(b"x")
    with pytest.raises(CouldNotRun, match=says):
        load(root)


def test_a_file_that_is_no_image_within_is_named(tmp_path: Path) -> None:
    root = one_class(tmp_path / "set", "cat", "dog")
    (root / "dog/torn.png").write_bytes((root / "dog/0.png").read_bytes()[:60])
    with pytest.raises(CouldNotRun, match=r"the image dog/torn\.png does not decode"):
        load(root)
    (root / "dog/torn.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CouldNotRun, match=r"torn\.png is a Git LFS pointer.*git lfs pull"):
        load(root)


def test_a_folder_unpacked_into_a_folder(tmp_path: Path) -> None:
    one_class(tmp_path / "set/archive/pets", "cat", "dog")
    assert load(tmp_path / "set").labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.zip", "zip archive"),
        ("a.npz", "NumPy archive"), ("a.h5", "HDF5 file"), ("a.arrow", "Arrow file"), ("a.mat", "MATLAB"),
        ("a.tfrecord-00000-of-00001", "TFRecord"), ("a.tar.gz", "compressed tar"), ("a.pkl", "pickle"), ("a.xlsx", "Excel"),
        ("t10k-images-idx3-ubyte.gz", "IDX file"), ("a.bin", "no image set that is read"), ("a.png", "one image"),
    ],
)  # fmt: skip
def test_files_that_are_not_read_are_named(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CouldNotRun, match=says):
        load(tmp_path / name)


def test_a_folder_of_what_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train-images-idx3-ubyte").write_bytes(b"x")
    with pytest.raises(CouldNotRun, match="IDX file"):
        load(tmp_path / "set")
    (tmp_path / "set/train-images-idx3-ubyte").unlink()
    with pytest.raises(CouldNotRun, match="holds no images"):
        load(tmp_path / "set")


TRAIN, TEST = ROWS[:12], ROWS[12:30]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001-0a1b2c.parquet", "data/test-00000-of-00001-3d4e5f.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("unsupervised-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("test_hard-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
    ],
)
def test_parquet_as_the_hub_lays_it_out(tmp_path: Path, train: str, test: str) -> None:
    root = tmp_path / "set"
    parquet(root / train, TRAIN, NAMES)
    parquet(root / test, TEST, NAMES)
    (root / "README.md").write_text("A card.")
    loaded = load(root)
    assert (loaded.split, loaded.n_split) == ("test", 18)
    assert hashes(loaded) == sorted(pixel_hash(image) for image, _ in TEST)


def test_train_and_validation_are_never_joined(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part in range(2):
        parquet(root / f"train-0000{part}-of-00002.parquet", TRAIN[6 * part : 6 * part + 6], NAMES)
    with pytest.raises(CouldNotRun, match=r'has no test split \(it has train\): .* split = "..."'):
        load(root)
    parquet(root / "validation-00000-of-00001.parquet", TEST, NAMES)
    loaded = load(root)
    assert (loaded.split, loaded.notes) == ("validation", (VALIDATION.format("validation"),))
    assert hashes(loaded) == sorted(pixel_hash(image) for image, _ in TEST)
    asked = load(root, 'split = "train"')
    assert (asked.split, asked.n_split, asked.notes) == ("train", 12, ())
    with pytest.raises(CouldNotRun, match=r"no split 'dev' \(it has train, validation\)"):
        load(root, 'split = "dev"')


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["test.parquet", "more.parquet"], "more.parquet is not named after a split"),
        (["birds-train.parquet", "birds-test.parquet"], "may be splits"),
        (["en/test/0.parquet", "fr/test/0.parquet"], r"several configurations \(en, fr\)"),
        (["test_matched.parquet", "test_mismatched.parquet"], r"no test split \(it has test_matched, test_mismatched\)"),
        (["test_a-00000-of-00001.parquet", "test_b-00000-of-00001.parquet"], r"no test split \(it has test_a, test_b\)"),
        (["a-00000-of-00001.parquet", "b-00000-of-00001.parquet"], r"no test split \(it has a, b\)"),
    ],
)
def test_parquet_files_whose_meaning_is_not_clear_are_refused(tmp_path: Path, files: list[str], says: str) -> None:
    for file in files:
        parquet(tmp_path / "set" / file, TEST, NAMES)
    with pytest.raises(CouldNotRun, match=says):
        load(tmp_path / "set")


def test_configurations(tmp_path: Path) -> None:
    parquet(tmp_path / "set/en/test/0.parquet", TEST, NAMES)
    parquet(tmp_path / "set/fr/test/0.parquet", TRAIN, NAMES)
    assert load(tmp_path / "set", 'config = "fr"').n_split == 12
    for form in ("{}.parquet", "part-0000{}-of-00002.parquet"):
        parquet(tmp_path / form[:4] / form.format(0), TEST[:9], NAMES)
        parquet(tmp_path / form[:4] / form.format(1), TEST[9:], NAMES)
        assert (load(tmp_path / form[:4]).split, load(tmp_path / form[:4]).n_split) == ("all", 18)


CARD = """---
license: mit
configs:
- config_name: large
  data_files: [{{split: test, path: "large/*.parquet"}}]
- config_name: small
  {default}
  data_files:
  - split: train
    path: [files/a.parquet]
  - split: test
    path: files/b-*.parquet
---
# A card
"""


def test_a_card_says_which_files_are_which_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    parquet(root / "files/a.parquet", TRAIN, NAMES)
    parquet(root / "files/b-0.parquet", TEST, NAMES)
    parquet(root / "large/0.parquet", ROWS, NAMES)
    (root / "README.md").write_text(CARD.format(default="default: true"))
    assert load(root).n_split == 18
    assert load(root, 'config = "large"').n_split == 40
    (root / "README.md").write_text(CARD.format(default=""))
    with pytest.raises(CouldNotRun, match=r"several configurations \(large, small\)"):
        load(root)
    with pytest.raises(CouldNotRun, match=r"no configuration 'tiny' \(it has large, small\)"):
        load(root, 'config = "tiny"')
    (root / "files/b-0.parquet").unlink()
    (root / "README.md").write_text(CARD.format(default="default: true"))
    with pytest.raises(CouldNotRun, match="names a split 'test' whose files are not here"):
        load(root)


def test_a_clone_with_pointers_for_files(tmp_path: Path) -> None:
    (tmp_path / "set/data").mkdir(parents=True)
    (tmp_path / "set/data/test-00000-of-00001.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CouldNotRun, match=r"Git LFS pointer.*git lfs pull"):
        load(tmp_path / "set")


@pytest.mark.parametrize("form", ["raw bytes", "struct", "path", "path in a struct", "backslashes"])
def test_images_in_parquet_in_every_form(tmp_path: Path, form: str) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    cells: list[object] = []
    for index, (image, _) in enumerate(TEST):
        image.save(root / f"images/{index}.png")
        name = f"images/{index}.png"
        cells.append({
            "raw bytes": encoded(image),
            "struct": {"bytes": encoded(image), "path": "gone.png"},
            "path": name,
            "path in a struct": {"bytes": None, "path": name},
            "backslashes": name.replace("/", "\\"),
        }[form])  # fmt: skip
    rows = {"image": cells, "label": [NAMES[label] for _, label in TEST]}
    datasets.Dataset.from_dict(rows).to_parquet(root / "test.parquet")
    expected = sorted(pixel_hash(image) for image, _ in TEST)
    assert hashes(load(root)) == expected
    assert hashes(load(root / "test.parquet")) == expected
    store = Store(tmp_path / "store")
    spec = Catalog.load().image_set(str(root))
    assert hashes(load_image_set(spec, store=store)) == expected
    if "path" in form:  # images outside the table may change while it does not
        ROWS[0][0].save(root / "images/0.png")
        assert hashes(load_image_set(spec, store=store)) != expected
        (root / "images/0.png").unlink()
        with pytest.raises(CouldNotRun, match=r"0\.png is listed and not there"):
            load_image_set(spec, store=store)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([[0, 1], [2, 3]], "holds lists of numbers"),
        ([1, 2], "holds values of type int64"),
        (["https://example.org/a.png"] * 2, "holds addresses"),
        (["data:image/png;base64,iVBORw0KGgo="] * 2, "base64"),
    ],
)
def test_cells_that_hold_no_images_are_named(tmp_path: Path, cells: list[object], says: str) -> None:
    datasets.Dataset.from_dict({"image": cells, "label": ["a", "b"]}).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(CouldNotRun, match=says):
        load(tmp_path / "test.parquet")


def test_columns_of_usual_names(tmp_path: Path) -> None:
    images, labels = [image for image, _ in TEST], [NAMES[label] for _, label in TEST]
    features = datasets.Features({"img": datasets.Image(), "class": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"img": images, "class": labels}, features=features)
    made.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").n_split == 18
    made.add_column("category", labels).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(CouldNotRun, match="class and category may both hold its labels"):
        load(tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet", 'label = "category"').n_split == 18


def write_bitmaps(root: Path, kind: str, rows: Sequence[tuple[Image.Image, int]]) -> None:
    """Images whose files have one size whatever they show."""
    if kind == "parquet":
        root.mkdir(exist_ok=True)
        columns = {"image": [encoded(image, "BMP") for image, _ in rows], "label": [NAMES[label] for _, label in rows]}
        pq.write_table(
            pa.table(columns), root / "test.parquet", compression="none", use_dictionary=False, write_statistics=False
        )
        return
    for index, (image, label) in enumerate(rows):
        (root / NAMES[label]).mkdir(parents=True, exist_ok=True)
        image.save(root / NAMES[label] / f"{index}.bmp")


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_files_overwritten_in_place_are_read_anew(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    store = Store(tmp_path / "store")
    write_bitmaps(root, kind, TEST)
    spec = Catalog.load().image_set(str(root))
    first = load_image_set(spec, store=store)
    before = {path: path.stat() for path in files_in(root)}
    other = [(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), label) for image, label in TEST]
    write_bitmaps(root, kind, other)
    for path, found in before.items():
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)
    again = load_image_set(spec, store=store)
    assert hashes(again) == sorted(pixel_hash(image) for image, _ in other)
    assert hashes(again) != hashes(first)
    item = again.items[0]
    assert pixel_hash(again.images([item])[0]) == item.hash


def as_on_the_hub(root: Path) -> ImageSetSpec:
    """A folder read as the hub's client reads a repository."""
    return replace(Catalog.load().image_set("cifar10"), id="it", source=str(root), image="image")


def test_the_hub_is_asked_for_its_splits(tmp_path: Path) -> None:
    parquet(tmp_path / "set/train-00000-of-00001.parquet", TRAIN, NAMES)
    spec = as_on_the_hub(tmp_path / "set")
    with pytest.raises(CouldNotRun, match=r"has no test split \(it has train\)"):
        load_image_set(spec)
    parquet(tmp_path / "set/validation-00000-of-00001.parquet", TEST, NAMES)
    loaded = load_image_set(spec, store=Store(tmp_path / "store"))
    assert (loaded.split, loaded.notes) == ("validation", (VALIDATION.format("validation"),))
    assert hashes(loaded) == sorted(pixel_hash(image) for image, _ in TEST)
    assert load_image_set(spec, store=Store(tmp_path / "store")) == loaded
    train = load_train(loaded, 1)
    assert train is None or not set(hashes(train)) & set(hashes(loaded))
    with pytest.raises(CouldNotRun, match=r"Unknown split \"extra\"|no split 'extra'"):
        load_image_set(replace(spec, split="extra"))


def test_a_hub_set_of_several_configurations_is_refused_as_that(tmp_path: Path) -> None:
    parquet(tmp_path / "set/a.parquet", TRAIN, NAMES)
    card = "---\nconfigs:\n- {config_name: one, data_files: a.parquet}\n- {config_name: two, data_files: a.parquet}\n---\n"
    (tmp_path / "set/README.md").write_text(card)
    with pytest.raises(CouldNotRun, match="name one of its configurations with config = "):
        load_image_set(as_on_the_hub(tmp_path / "set"))


def test_a_card_above_the_only_folder(tmp_path: Path) -> None:
    root = tmp_path / "set"
    parquet(root / "data/one.parquet", TRAIN, NAMES)
    parquet(root / "data/other.parquet", TEST, NAMES)
    files = "[{split: train, path: data/one.parquet}, {split: test, path: data/o*r.*}]"
    head = f"configs: [{{config_name: default, data_files: {files}}}]"
    (root / "README.md").write_text(f"---\n{head}\n---\n")
    loaded = load(root)
    assert (loaded.split, hashes(loaded)) == ("test", sorted(pixel_hash(image) for image, _ in TEST))


def test_a_saved_dataset_in_the_only_folder(tmp_path: Path) -> None:
    columns = {"image": [encoded(image) for image, _ in TEST], "label": [NAMES[label] for _, label in TEST]}
    datasets.DatasetDict(test=datasets.Dataset.from_dict(columns)).save_to_disk(tmp_path / "set/saved")
    assert load(tmp_path / "set").n_split == 18


def test_parquet_beside_class_folders_is_refused(tmp_path: Path) -> None:
    root = one_class(tmp_path / "set", "cat", "dog")
    parquet(root / "test.parquet", TEST, NAMES)
    with pytest.raises(CouldNotRun, match=r"holds test\.parquet and class folders of images: name the file or folder"):
        load(root)
    assert load(root / "test.parquet").n_split == 18
