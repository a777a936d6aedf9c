"""Failure kinds, with the paper's own examples (sections 4.2 and 5) and what fine-tuned models do besides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.catalog import Catalog
from emt_plugin.scoring import FAILURE_KINDS, AnswerScorer, Observation, ScorerContext

CATALOG = Catalog.load()
KNOWN = CATALOG.known_labels()


def scorer(image_set: str) -> AnswerScorer:
    spec = CATALOG.image_set(image_set)
    others = [label for labels in KNOWN.values() for label in labels]
    frames = tuple(spec.prompt.split("{labels}"))
    return AnswerScorer(ScorerContext(KNOWN[image_set], spec.stems, frames, tuple(others), CATALOG.known_stems()))


def kind(image_set: str, label: str, answer: str) -> str | None:
    labels = KNOWN[image_set]
    score = scorer(image_set).score(Observation(answer=answer), labels.index(label), labels)
    assert score.correct is (score.kind is None)
    return score.kind


@pytest.mark.parametrize(
    ("image_set", "label", "answer", "expected"),
    [
        # Section 4.2: LLaVA-7b, LENS and InstructBLIP-7b.
        ("mnist", "0", "The number in the image is 8:", "wrong class"),
        ("cifar10", "horse", "airplane, automobile, bird, cat, deer, dog, frog, horse,", "several classes or a contradiction"),
        ("cifar100", "aquarium fish", "a picture of a fish in a tank", "outside the label set"),
        # Section 5: LLaVA after LoRA tuning on CIFAR-10, MNIST, CIFAR-100 and miniImagenet; the image is an airplane.
        ("cifar10", "airplane", "The object is an airplane.", None),
        ("cifar10", "airplane", "The airplane is 8.", None),
        ("cifar10", "airplane", "The object is a(n) butterfly.", "class of another image set"),
        ("cifar10", "airplane", "The object is a(n) aircraft carrier.", "class of another image set"),
    ],
)
def test_the_papers_examples(image_set: str, label: str, answer: str, expected: str | None) -> None:
    assert kind(image_set, label, answer) == expected


@pytest.mark.parametrize(
    ("image_set", "label", "answer", "expected"),
    [
        ("mnist", "3", "The object is a sneaker.", "class of another image set"),
        ("mnist", "3", "sneaker", "class of another image set"),
        ("fashion-mini", "sneaker", "The number is 7.", "class of another image set"),
        ("fashion-mini", "sneaker", "A man is holding a phone.", "outside the label set"),
        ("fashion-mini", "shirt", "t-shirt", "wrong class"),
        ("cifar10", "dog", "It is not a dog.", "several classes or a contradiction"),
        ("cifar10", "dog", "a dog, not a cat", None),
        ("cifar10", "dog", "a dog. It is not a dog.", "several classes or a contradiction"),
        ("cifar10", "dog", "<think>A dog, or", "unfinished reasoning"),
        ("cifar10", "dog", "It might be a dog.", "refusal"),
        ("cifar10", "dog", "a cat or a dog", "several classes or a contradiction"),
        ("cifar10", "dog", "a cat", "wrong class"),
        ("cifar10", "dog", "a puppy on a ship", "outside the label set"),
        ("cifar10", "ship", "sailors on a ship", None),
        ("cifar100", "bear", "a bear and its cub", None),
        ("cifar10", "dog", "What is the object in the image?", "echo of the prompt"),
        ("cifar10", "dog", "Please only answer a single object in airplane, automobile, bird,", "echo of the prompt"),
        ("cifar10", "dog", "What is the object in the image? A dog.", None),
        ("cifar10", "dog", "What is the object in the image? A cat.", "wrong class"),
        ("cifar10", "dog", "The object in the image is a kettle.", "outside the label set"),
        ("cifar10", "dog", "", "nothing"),
        ("cifar10", "dog", " \n...", "nothing"),
        ("cifar10", "dog", "I am unable to see images", "refusal"),
        ("cifar10", "dog", "I'm sorry, I can't tell whether this is a dog.", "refusal"),
        ("cifar10", "dog", "The", "outside the label set"),
        ("cifar10", "dog", "qwerty", "outside the label set"),
        ("mnist", "8", "No. 8", None),
        ("mnist", "8", "There is no doubt: 8", None),
    ],
)
def test_kinds(image_set: str, label: str, answer: str, expected: str | None) -> None:
    assert kind(image_set, label, answer) == expected


def test_without_other_image_sets_their_classes_are_outside() -> None:
    labels = KNOWN["mnist"]
    score = AnswerScorer(ScorerContext(labels)).score(Observation(answer="sneaker"), 3, labels)
    assert score.kind == "outside the label set"


@pytest.mark.parametrize("image_set", ["mnist-mini", "fashion-mini", "digits-mini", "emoji-mini"])
def test_the_catalogs_labels_are_the_datas(image_set: str) -> None:
    from emt_plugin.data import load_image_set

    assert load_image_set(CATALOG.image_set(image_set), limit=1).labels == KNOWN[image_set]


def test_the_papers_sets_have_their_number_of_classes() -> None:
    assert {name: len(set(KNOWN[name])) for name in ("mnist", "cifar10", "cifar100", "miniimagenet")} == {
        "mnist": 10,
        "cifar10": 10,
        "cifar100": 100,
        "miniimagenet": 100,
    }


@given(st.text(max_size=120), st.integers(0, 9))
def test_every_wrong_answer_has_exactly_one_kind(answer: str, label: int) -> None:
    labels = KNOWN["cifar10"]
    score = scorer("cifar10").score(Observation(answer=answer), label, labels)
    assert (score.kind is None) is bool(score.correct)
    assert score.kind is None or score.kind in FAILURE_KINDS


def test_another_label_set_is_refused() -> None:
    with pytest.raises(ValueError, match="another label set"):
        scorer("mnist").score(Observation(answer="8"), 0, KNOWN["cifar10"])


def test_what_a_filter_withheld_is_no_answer_whatever_it_says() -> None:
    scorer = AnswerScorer(ScorerContext(("cat", "dog")))
    score = scorer.score(Observation(answer="a dog", withheld=True), 1, ("cat", "dog"))
    assert (score.prediction, score.correct, score.kind, score.well_formed) == (None, False, "withheld by a filter", False)
