"""Numbers that tell a fault of the reader from one of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emt_plugin.report.words.verdicts import reader_notes
from emt_plugin.scoring.diagnosis import OUTSIDE, Read, reading_facts
from tests.unit.test_records import make_pair

LABELS = ("cat", "dog", "aquarium fish")


def notes(found: list[Read]) -> list[str]:
    pair = make_pair(len(found), 0)
    facts: dict[str, Any] = {"reader": reading_facts(found, LABELS)}
    return reader_notes(replace(pair, n=len(found), scores=(replace(pair.scores[0], facts=facts),)))


def outside(answer: str, label: int = 0) -> Read:
    return Read(answer, None, OUTSIDE, label)


def test_answers_outside_that_contain_a_label() -> None:
    found = [
        outside("a catfish"),
        outside("Caterpillar"),
        outside("a sofa"),
        outside("Aquarium fishes?"),
        Read("cat", 0, None, 0),
    ]
    facts = reading_facts(found, LABELS)
    assert (facts["outside"], facts["outside_with_label"]) == (4, 3)
    assert notes(found)[0].startswith("3 of the 4 answers that name no label contain a label's letters: the reader may be")
    assert notes([outside("<think>cat or dog</think>sofa"), outside("chair")]) == []


def test_one_answer_to_most_images() -> None:
    found = [outside("The.", index % 3) for index in range(40)] + [Read("cat", 0, None, 0)] * 20
    assert notes(found) == ["“The.” is 40 of 60 answers: the model does not follow the question"]


@pytest.mark.parametrize(("labels", "said"), [([0, 1, 2], True), ([0, 0, 0], False)])
def test_one_class_to_most_images(labels: list[int], said: bool) -> None:
    found = [Read("A cat.", 0, None if label == 0 else "wrong class", label) for label in labels * 20]
    assert notes(found) == (["“A cat.” is 60 of 60 answers, whatever the images show"] if said else [])


def test_without_anything_odd_nothing_is_said() -> None:
    assert notes([Read("cat", 0, None, 0), Read("dog", 1, None, 1), outside("sofa")]) == []
    assert reader_notes(make_pair()) == []
