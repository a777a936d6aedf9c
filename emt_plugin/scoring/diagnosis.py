"""Numbers by which a person can tell whether the reader is at fault, or the model does not do what it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from emt_plugin.scoring.reasoning import without_reasoning

OUTSIDE = "outside the label set"


class Read(NamedTuple):
    """One answer as it was read.

    Attributes:
        answer: the text.
        prediction: the class, None for none.
        kind: failure kind.
        label: the image's.
    """

    answer: str
    prediction: int | None
    kind: str | None
    label: int


def reading_facts(found: Sequence[Read], labels: Sequence[str]) -> dict[str, Any]:
    """Plain data about how a set's answers were read.

    Args:
        found: the answers; at least one.
        labels: label names.

    Returns:
        ``outside``: answers that name no label; ``outside_with_label``: those of them that contain a label's letters;
        ``most_common`` and ``most_common_count``: the answer that is given most often; ``most_common_names``: whether it
        is read as a class; ``largest_class``: images of the class that has most.
    """
    names = [label.casefold().replace("_", " ") for label in labels]
    outside = [
        without_reasoning(read.answer).text.casefold() for read in found if read.kind == OUTSIDE and read.prediction is None
    ]
    answer, count = Counter(read.answer for read in found).most_common(1)[0]
    return {
        "outside": len(outside),
        "outside_with_label": sum(any(name in text for name in names) for text in outside),
        "most_common": answer,
        "most_common_count": count,
        "most_common_names": next(read.prediction for read in found if read.answer == answer) is not None,
        "largest_class": max(Counter(read.label for read in found).values()),
    }
