"""Answers in many languages and forms, each with the class that a careful person reads in it: ``readings_by_kind.tsv``."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_plugin.scoring import Reader
from emt_plugin.scoring.reasoning import stated

ROWS = [
    line.split("\t") for line in (Path(__file__).parent / "readings_by_kind.tsv").read_text(encoding="utf-8").splitlines()[1:]
]


def read(labels: str, answer: str) -> str:
    names = labels.split("|")
    prediction = Reader(names).read(answer.replace("\\n", "\n")).prediction
    return "-" if prediction is None else names[prediction]


@pytest.mark.parametrize("kind", sorted({row[0] for row in ROWS}))
def test_answers_are_read_as_a_person_reads_them(kind: str) -> None:
    rows = [tuple(row[1:]) for row in ROWS if row[0] == kind]
    assert len(rows) > 20
    assert [(labels, answer, read(labels, answer)) for labels, answer, _ in rows] == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog has a snout. Final answer: cat", "cat"),
        ("Answer: cat", "Answer: cat"),  # nothing before it that it could be told from
        ("cat. Answer:", "cat. Answer:"),
        ("Answer: cat. Answer: dog", "Answer: cat. Answer: dog"),  # two headings tell nothing
        ("Answer: dog? Final answer: cat", "cat"),
        ("cat\nExplanation: no dog", "cat"),
        ("I am not sure the answer is cat", "I am not sure the answer is cat"),
    ],
)
def test_what_stands_under_a_heading_is_the_answer(text: str, expected: str) -> None:
    assert stated(text) == expected


def test_an_answer_under_a_heading_is_right_and_not_well_formed() -> None:
    reading = Reader(["cat", "dog"]).read("It has whiskers, unlike a dog. Answer: cat")
    assert reading.prediction == 0
    assert not reading.well_formed
