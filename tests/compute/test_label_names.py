"""Label names: what the model is asked about, never numbers that stand for words."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from emt_plugin.catalog import Catalog, CatalogError
from emt_plugin.data import load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store
from tests.compute.image_files import bundled, catalog_with, load

NAMES, ROWS = bundled("fashion-mini", 60)
LISTED = f"labels = {list(NAMES)!r}".replace("'", '"').replace("_", " ")


def numbered(folder: Path, first: int = 0, feature: object = None, without: tuple[int, ...] = ()) -> Path:
    """Fashion with numbers for labels."""
    rows = [(image, label) for image, label in ROWS if label not in without]
    features = datasets.Features({"image": datasets.Image(), "label": feature or datasets.Value("int64")})
    values: list[object] = [label + first for _, label in rows]
    if getattr(feature, "dtype", "") == "string":
        values = [str(value) for value in values]
    columns = {"image": [image for image, _ in rows], "label": values}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "test.parquet")
    return folder / "test.parquet"


FEATURES = [
    datasets.Value("int64"),
    datasets.Value("string"),
    datasets.Value("float32"),
    datasets.ClassLabel(names=[str(number) for number in range(10)]),
]


@pytest.mark.parametrize("feature", FEATURES, ids=["int", "string", "float", "ClassLabel"])
def test_numbers_without_names_are_refused_until_they_are_named(tmp_path: Path, feature: object) -> None:
    path = numbered(tmp_path, feature=feature)
    with pytest.raises(
        CouldNotRun, match=r'numbers without names \(0, 1, 2 ... 9\): .* labels = .* names = "numbers"'
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    named = load(path, LISTED)
    assert named.labels == tuple(name.replace("_", " ") for name in NAMES)
    assert {item.row: item.label for item in named.items} == dict(enumerate(label for _, label in ROWS))
    assert "t-shirt, trouser" in named.question.prompt
    assert load(path, 'names = "numbers"').labels == tuple(str(number) for number in range(10))


def test_class_folders_that_are_numbers(tmp_path: Path) -> None:
    for index, (image, label) in enumerate(ROWS):
        (tmp_path / "set" / str(label)).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "set" / str(label) / f"{index}.png")
    with pytest.raises(CouldNotRun, match="numbers without names"):
        load(tmp_path / "set")
    assert "ankle boot" in load(tmp_path / "set", LISTED).labels


def test_numbers_that_are_numbers_are_so_for_what_is_like_mnist(tmp_path: Path) -> None:
    assert load(numbered(tmp_path), like="mnist").labels == tuple(str(number) for number in range(10))
    for name in ("mnist", "mnist-mini", "digits-mini"):
        assert Catalog.load().image_set(name).names == "numbers"
    assert Catalog.load().image_set("fashion-mini").names == "as-is"


def test_a_question_for_digits_says_that_labels_are_numbers(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    assert len(load(path, 'prompt = "Which digit is it? Answer one of {labels}."').labels) == 10
    with pytest.raises(CouldNotRun, match="numbers without names"):
        load(path, 'prompt = "Which garment is it? Answer one of {labels}."')


def test_numbers_from_one(tmp_path: Path) -> None:
    named = load(numbered(tmp_path, first=1), LISTED)
    assert {item.row: item.label for item in named.items} == dict(enumerate(label for _, label in ROWS))


def test_a_number_that_does_not_occur(tmp_path: Path) -> None:
    named = load(numbered(tmp_path, without=(4,)), LISTED)
    assert len(named.labels) == 10
    assert {item.label for item in named.items} == set(range(10)) - {4}


@pytest.mark.parametrize(
    ("first", "keys"),
    [(0, 'labels = ["a", "b"]'), (0, LISTED[:-1] + ', "one more"]'), (2, LISTED), (-1, LISTED)],
    ids=["too few", "too many", "from two", "from minus one"],
)
def test_labels_that_do_not_fit_numbers(tmp_path: Path, first: int, keys: str) -> None:
    with pytest.raises(CouldNotRun, match=r"labels in the catalog names .* name each of them, in order, from 0 or from 1"):
        load(numbered(tmp_path, first=first), keys)


def test_labels_beside_names_must_be_the_same(tmp_path: Path) -> None:
    path = numbered(tmp_path, feature=datasets.ClassLabel(names=list(NAMES)))
    assert load(path, LISTED).labels == load(path).labels
    with pytest.raises(CouldNotRun, match=r"differ \(the data have t-shirt; labels have hat\): correct labels"):
        load(path, LISTED.replace('"t-shirt"', '"hat"'))


def folders(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        ROWS[index][0].save(root / name / "0.png")
    return root


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("001.Black_footed_Albatross", "002.Laysan_Albatross"), ("Black footed Albatross", "Laysan Albatross")),
        (("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), ("Chihuahua", "Japanese spaniel")),
        (("20_km", "30_km"), ("20 km", "30 km")),
        (("001.Cat", "dog"), ("001.Cat", "dog")),
    ],
)
def test_ids_of_class_folders_are_left_out_where_names_remain(
    tmp_path: Path, names: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    loaded = load(folders(tmp_path / "set", *names))
    assert loaded.labels == labels
    assert any("left out of their names" in note for note in loaded.notes) == (labels[0][0] not in "02")


def test_labels_that_are_no_list_of_strings(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="must be a list of strings"):
        catalog_with(tmp_path, tmp_path, "labels = [1, 2]")
    with pytest.raises(CatalogError, match='"as-is", "wordnet" or "numbers"'):
        catalog_with(tmp_path, tmp_path, 'names = "digits"')


def test_a_row_without_a_label(tmp_path: Path) -> None:
    columns = {"image": [image for image, _ in ROWS[:3]], "label": ["coat", None, "bag"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(CouldNotRun, match="row 1 has the label None, outside its 2 labels"):
        load(tmp_path / "test.parquet")


CARD = """---
dataset_info:
- config_name: default
  features:
  - {{name: image, dtype: image}}
  - name: label
    dtype:
      class_label:
        names:
{names}
---
"""


def test_names_that_a_card_or_a_list_has(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    card = CARD.format(names="\n".join(f"          '{index}': {name}" for index, name in enumerate(NAMES)))
    (tmp_path / "README.md").write_text(card)
    store = Store(tmp_path / "store")
    spec = Catalog.load().image_set(str(path))
    loaded = load_image_set(spec, store=store)
    assert loaded.labels == tuple(name.replace("_", " ") for name in NAMES)
    assert {item.row: item.label for item in loaded.items} == dict(enumerate(label for _, label in ROWS))
    assert loaded.notes == ("its label names are those of README.md or classnames.txt",)
    (tmp_path / "README.md").write_text(card.replace("ankle_boot", "boot"))
    assert load_image_set(spec, store=store).labels[-1] == "boot"
    (tmp_path / "README.md").write_text("\n".join(card.splitlines()[:-2]))  # one name too few
    with pytest.raises(CouldNotRun, match="numbers without names"):
        load_image_set(spec, store=store)
    (tmp_path / "classnames.txt").write_text("\n".join(NAMES))
    assert load_image_set(spec, store=store).labels == loaded.labels


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    columns = {"image": [image for image, _ in ROWS[:3]], "label": [0.5, 1.0, 2.0]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(CouldNotRun, match=r"numbers like 0\.5, which are no classes"):
        load(tmp_path / "test.parquet")
