"""The strict reader, against sentences whose reading is plain to a person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.scoring import Reader
from emt_plugin.scoring.forms import TURKISH_ENDINGS
from emt_plugin.scoring.reader import unreadable

DIGITS = [str(digit) for digit in range(10)]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100_SOME = ["man", "woman", "sea", "seal", "bee", "beetle", "cup", "porcupine", "sweet pepper", "pepper", "mouse",
                 "aquarium fish", "pickup truck", "leopard", "lion", "sea lion", "t-shirt", "shirt", "bus"]  # fmt: skip
STEMS = ["the object is", "the number is"]


def read(labels: list[str], answer: str) -> str | None:
    prediction = Reader(labels, STEMS).read(answer).prediction
    return None if prediction is None else labels[prediction]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("dog", "dog"),
        ("Dog.", "dog"),
        ("The object is a DOG!", "dog"),
        ("The object is a(n) airplane.", "airplane"),
        ("The airplane is 8.", "airplane"),
        ("dogs", "dog"),
        ("It is not a dog.", None),
        ("This isn't the dog", None),
        ("A dog, no cat", "dog"),
        ("There is no doubt that this is a dog.", "dog"),
        ("It is not only a dog.", "dog"),
        ("A dog. Yes, a dog.", "dog"),
        ("**ship**", "ship"),
        ("airplane, automobile, bird, cat, deer, dog, frog, horse,", None),  # LENS, paper section 4.2
        ("a cat or a dog", None),
        ("", None),
        (" \n", None),
        ("...", None),
        ("a picture of a fish in a tank", None),
        ("a doghouse", None),
        ("I'm sorry, I can't tell whether this is a cat.", None),
        ("I cannot determine the object.", None),
        ("As an AI, I see a dog", None),
    ],
)
def test_objects(answer: str, expected: str | None) -> None:
    assert read(CIFAR10, answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The number in the image is 8:", "8"),  # LLaVA-7b, paper section 4.2
        ("8", "8"),
        ("eight", "8"),
        ("The number is Three.", "3"),
        ("18", None),
        ("0.8", None),
        ("8.5", None),
        ("8th", None),
        ("0, 1, 2, 3, 4, 5, 6, 7, 8, 9", None),
        ("3 or 5", None),
        ("one", "1"),
        ("The one in the image is 7.", "7"),  # a pronoun beside a digit
        ("zero", "0"),
        ("number", None),
    ],
)
def test_digits(answer: str, expected: str | None) -> None:
    assert read(DIGITS, answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("woman", "woman"),  # each of these was right for another label in a substring match
        ("seal", "seal"),
        ("beetle", "beetle"),
        ("porcupine", "porcupine"),
        ("sweet pepper", "sweet pepper"),
        ("Sweet_Peppers", "sweet pepper"),
        ("a pepper", "pepper"),
        ("sweet pepper and pepper", None),
        ("a sea lion", "sea lion"),
        ("a lion by the sea", None),
        ("men", "man"),
        ("women", "woman"),
        ("mice", "mouse"),
        ("aquarium_fish", "aquarium fish"),
        ("aquarium-fish", "aquarium fish"),
        ("a fish in an aquarium", None),
        ("T-Shirt", "t-shirt"),
        ("tshirt", "t-shirt"),
        ("a shirt", "shirt"),
        ("buses", "bus"),
        ("truck", None),
        ("pickup trucks", "pickup truck"),
    ],
)
def test_labels_inside_labels(answer: str, expected: str | None) -> None:
    assert read(CIFAR100_SOME, answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("twenty-seven", None),
        ("one hundred", None),
        ("seventy-five", None),
        ("5,000", None),
        ("It is 3:00", None),
        ("zero or one", None),
        ("either one or seven", None),
        ("The number is 3. I can't see any other numbers.", "3"),
        ("I can't tell. Maybe 3.", None),
        ("I can’t tell. Maybe 3.", None),
        ("It is a one that looks like a seven.", None),
        ("a one, not a seven", "1"),
        ("Seven. Seven.", "7"),
    ],
)
def test_numbers_that_are_not_digits(answer: str, expected: str | None) -> None:
    assert read(DIGITS, answer) == expected


@pytest.mark.parametrize(
    ("labels", "answer", "expected"),
    [
        ([str(number) for number in range(51)], "twenty-one", "21"),
        ([str(number) for number in range(51)], "20", "20"),
        (["hotdog", "dog"], "a hot dog", "hotdog"),
        (["miniskirt", "skirt"], "mini-skirt", "miniskirt"),
        (["can", "bear", "cup"], "I can see a bear.", "bear"),
        (["can", "bear", "cup"], "a can", "can"),
        (["can", "bear", "cup"], "a can and a cup", None),
        (["A", "B", "I"], "I see a B.", "B"),
        (["A", "B", "I"], "A", "A"),
        (["A", "I", "S", "T", "M"], "It's a T", "T"),
        (["A", "I", "S", "T", "M"], "I don't know", None),
        (["A", "I", "S", "T", "M"], "I cannot tell", None),
        (["A", "I", "S", "T", "M"], "I'm unable to say.", None),
        (["A", "I", "S", "T", "M"], "This image shows a letter I.", "I"),
        (["can", "bottle", "table"], "A soda can on a table.", None),
        (["can", "bottle", "table"], "an aluminum can next to a bottle", None),
        (["can", "bottle", "table"], "can / bottle", None),
        (["bird's nest", "bird"], "a bird's nest", "bird's nest"),
        (["T-shirt/top", "Shirt"], "A T-shirt.", "T-shirt/top"),
        (["T-shirt/top", "Shirt"], "a top", "T-shirt/top"),
        (["watches", "berries", "children", "women"], "a watch", "watches"),
        (["watches", "berries", "children", "women"], "a berry", "berries"),
        (["watches", "berries", "children", "women"], "a child", "children"),
        (["watches", "berries", "children", "women"], "a woman", "women"),
        (["news", "new"], "new", "new"),
        (["馬", "船"], "河馬", None),
        (["バス", "パス"], "バス", "バス"),
    ],
)
def test_words_that_look_like_others(labels: list[str], answer: str, expected: str | None) -> None:
    assert read(labels, answer) == expected


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (["cat", "dog"], ()),
        (["C", "C++"], ("C", "C++")),
        (["cat", "+"], ("+",)),
        (["hot_dog", "hot dog"], ("hot_dog", "hot dog")),
    ],
)
def test_labels_that_no_answer_could_tell_apart(labels: list[str], alike: tuple[str, ...]) -> None:
    assert unreadable(labels) == alike


def test_a_plural_that_is_another_label_is_that_label() -> None:
    assert read(["glass", "glasses"], "glasses") == "glasses"
    assert read(["glass", "glasses"], "glass") == "glass"


def test_two_labels_that_read_alike_are_never_exactly_one() -> None:
    assert Reader(["crane", "Crane"]).read("crane").named == (0, 1)
    assert read(["crane", "Crane"], "crane") is None


def test_labels_with_accents_and_without_spaces() -> None:
    assert read(["café", "bar"], "Cafe") == "café"
    assert read(["猫", "犬"], "これは猫です") == "猫"


@pytest.mark.parametrize(
    ("labels", "answer", "well_formed"),
    [
        (CIFAR10, "dog", True),
        (CIFAR10, "a dog.", True),
        (CIFAR10, "The object is a dog.", True),
        (CIFAR10, "The object is a(n) airplane.", True),
        (CIFAR10, "The airplane is 8.", False),
        (CIFAR10, "The object is a dog on grass.", False),
        (CIFAR10, "The object is", False),
        (CIFAR10, "cat dog", False),
        (DIGITS, "The number is three.", True),
    ],
)
def test_well_formed(labels: list[str], answer: str, well_formed: bool) -> None:
    assert Reader(labels, STEMS).read(answer).well_formed is well_formed


LABEL = st.sampled_from(CIFAR10)


@given(LABEL, st.sampled_from(["{}", "The object is a {}.", "a(n) {}", "{}!", "I see a {} there", "**{}**"]), st.booleans())
def test_a_sentence_with_one_label_is_that_label(label: str, sentence: str, upper: bool) -> None:
    answer = sentence.format(label)
    assert read(CIFAR10, answer.upper() if upper else answer) == label


@given(st.lists(LABEL, min_size=2, unique=True), st.sampled_from([", ", " ", " and ", "/", "\n"]))
def test_a_list_of_labels_is_no_class(labels: list[str], between: str) -> None:
    reading = Reader(CIFAR10).read(between.join(labels))
    assert reading.prediction is None
    assert [CIFAR10[index] for index in reading.named] == labels


@given(st.text(max_size=200))
def test_any_text_is_read_without_error(answer: str) -> None:
    reading = Reader(CIFAR10, STEMS).read(answer)
    assert reading.prediction is None or len(reading.named) == 1


@given(LABEL, st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=3))
def test_letters_grown_onto_a_label_hide_it(label: str, tail: str) -> None:
    grown = label + tail
    if tail not in {"s", "es", *TURKISH_ENDINGS}:
        assert read(CIFAR10, grown) is None
