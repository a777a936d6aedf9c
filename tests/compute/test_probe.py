"""Linear probes against scikit-learn's logistic regression, and what they must never see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from emt_plugin.catalog import Catalog
from emt_plugin.data import load_image_set, load_train
from emt_plugin.encoders import probe
from emt_plugin.encoders.probe import FOLDS, PENALTIES, fit_probe, folds_of, out_of_fold


def clouds(seed: int, rows: int = 120, classes: int = 3, noise: float = 1.5) -> tuple[torch.Tensor, list[int]]:
    generator = np.random.default_rng(seed)
    labels = [row % classes for row in range(rows)]
    centres = generator.normal(size=(classes, 8))
    points = centres[labels] + noise * generator.normal(size=(rows, 8))
    return torch.tensor(points * [1, 10, 0.1, 1, 1, 5, 1, 1] + 3, dtype=torch.float32), labels


@pytest.mark.parametrize("penalty", PENALTIES)
def test_weights_are_those_of_scikit_learn(penalty: float) -> None:
    features, labels = clouds(1)
    ours = probe._fitted(features, torch.tensor(labels), 3, penalty, None)
    standard = ((features.double() - ours.mean) / ours.scale).numpy()
    # Their objective is the summed loss times C plus half the squared weights; ours the mean loss plus penalty times them.
    theirs = LogisticRegression(C=1 / (2 * penalty * len(labels)), tol=1e-10, max_iter=10_000).fit(standard, labels)
    ours_centred = ours.weights - ours.weights.mean(1, keepdim=True)
    assert ours_centred.T.numpy() == pytest.approx(theirs.coef_, abs=2e-4)
    assert ours.classes(features) == theirs.predict(standard).tolist()


def test_the_penalty_is_the_best_on_a_fifth_of_the_training_rows() -> None:
    features, labels = clouds(2, rows=60, noise=3.0)
    held = np.array([fold == 0 for fold in folds_of(labels)])
    rights = []
    for penalty in PENALTIES:
        fitted = probe._fitted(features[~held], torch.tensor(labels)[~held], 3, penalty, None)
        rights.append(sum(np.array(fitted.classes(features[held])) == np.array(labels)[held]))
    assert fit_probe(features, labels, 3).penalty == PENALTIES[int(np.argmax(rights))]


def test_folds_are_even_in_every_class() -> None:
    labels = [row % 7 for row in range(200)]
    folds = folds_of(labels)
    for label in range(7):
        sizes = [sum(f == fold and x == label for f, x in zip(folds, labels, strict=True)) for fold in range(FOLDS)]
        assert max(sizes) - min(sizes) <= 1


def test_out_of_fold_no_row_sees_itself() -> None:
    features = torch.eye(40)
    # Each row has a feature of its own: a probe that had seen it would know its label.
    labels = [0, 1] * 20
    found = out_of_fold(features, labels, 2)
    fitted = fit_probe(features, labels, 2).classes(features)
    assert fitted == labels
    assert sum(a == b for a, b in zip(found, labels, strict=True)) < 30


def test_features_that_say_nothing_and_constant_features_do_no_harm() -> None:
    features = torch.cat([torch.ones(30, 3), torch.zeros(30, 2)], dim=1)
    labels = [0] * 20 + [1] * 10
    assert fit_probe(features, labels, 2).classes(features) == [0] * 30


def test_the_same_features_give_the_same_probe() -> None:
    features, labels = clouds(3)
    one, other = fit_probe(features, labels, 3), fit_probe(features.clone(), labels, 3)
    assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("name", ["mnist-mini", "emoji-mini"])
def test_training_images_are_never_evaluated_ones(name: str) -> None:
    image_set = load_image_set(Catalog.load().image_set(name), limit=100)
    train = load_train(image_set, 20)
    assert train is not None
    assert train.split == "train"
    assert not {item.hash for item in train.items} & {item.hash for item in image_set.items}
    counts = [sum(item.label == label for item in train.items) for label in range(len(image_set.labels))]
    assert 0 < max(counts) <= 20
    (image,) = train.images(train.items[:1])
    from emt_plugin.data.image_set import pixel_hash

    assert pixel_hash(image) == train.items[0].hash


def test_images_of_both_splits_are_left_out(tmp_path) -> None:
    import datasets

    source = Catalog.load().image_set("emoji-mini").source
    test = datasets.load_dataset("parquet", data_files=f"{source}/test.parquet", split="train")
    test.to_parquet(tmp_path / "test.parquet")
    test.to_parquet(tmp_path / "train.parquet")
    image_set = load_image_set(Catalog.load().image_set(str(tmp_path)))
    assert load_train(image_set, 50) is None


def test_a_set_without_training_images(tmp_path) -> None:
    import datasets

    source = Catalog.load().image_set("emoji-mini").source
    test = datasets.load_dataset("parquet", data_files=f"{source}/test.parquet", split="train")
    test.to_parquet(tmp_path / "only.parquet")
    assert load_train(load_image_set(Catalog.load().image_set(str(tmp_path / "only.parquet"))), 50) is None
