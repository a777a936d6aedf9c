"""The paper's LLM judge: what it is asked, with which settings, and how its ruling is read (section 4.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

PROMPT = (
    'Please only answer the question in yes or no. Is the "Prediction" correctly predicting the right "Label"? '
    "Label: {label}; Prediction: {answer}."
)
SETTINGS: Mapping[str, float | int] = MappingProxyType(
    {"temperature": 0.2, "max_tokens": 64, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
)
# The judge of the paper.
MODEL = "gpt-3.5-turbo"


@dataclass(frozen=True)
class Ruling:
    """What a judge said of one answer.

    Attributes:
        text: as given.
        says: how it was read.
    """

    text: str
    says: Literal["yes", "no", "unparseable"]


def question_to_judge(label: str, answer: str) -> str:
    """The paper's prompt, which has label names with underscores."""
    return PROMPT.replace("{label}", label.replace(" ", "_")).replace("{answer}", answer)


def read_ruling(text: str) -> Ruling:
    """A ruling begins with yes or no and does not say the other too; anything else is unparseable.

    The paper gives no rule.
    """
    words = re.findall(r"[a-z]+", text.casefold())
    said = {"yes", "no"} & set(words)
    if len(said) == 1 and words[0] in said:
        return Ruling(text, "yes" if "yes" in said else "no")
    return Ruling(text, "unparseable")
