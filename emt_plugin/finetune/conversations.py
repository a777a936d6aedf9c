"""What is learned: one conversation for each training image, in the paper's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emt_plugin.data import ImageSet
from emt_plugin.models.conversation import Answered, answered, conversation, processed
from emt_plugin.models.ranking.packed import OTHERS

IGNORED = -100


class Conversations(torch.utils.data.Dataset[dict[str, Any]]):
    """The images of a set, each with the whole conversation that names its class.

    The paper's (section 5): the question without the list of labels, which appears at evaluation alone.

    Args:
        image_set: the training images.
        processor: the model's.
        ends: tokens that end an answer.
        name: the model, for messages.

    Raises:
        CouldNotRun: the chat template takes no image or no answer.
    """

    def __init__(self, image_set: ImageSet, processor: Any, ends: list[int], name: str) -> None:
        self._image_set = image_set
        spec = image_set.spec
        asked = conversation(processor, spec.tuning_question(image_set.labels), name)
        answers = [spec.tuned_answer(label) for label in image_set.labels]
        self.of_label: Sequence[Answered] = answered(processor, asked, answers, ends, name)

    def __len__(self) -> int:
        return len(self._image_set.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._image_set.items[index]
        (image,) = self._image_set.images([item])
        return {"image": image, "conversation": self.of_label[item.label]}


class Collator:
    """Makes a batch as the model takes it; the loss sees the answers' tokens alone.

    The processor is shown the questions alone, as it is when the model is asked: what it makes of one for another part of the
    model, such as a Q-Former, must not hold the answer.

    Args:
        processor: the model's.
        reads_both_ways: the model reads a prompt in both directions, and is told by a token's type where the answer begins.
    """

    def __init__(self, processor: Any, reads_both_ways: bool = False) -> None:
        self._processor = processor
        self._reads_both_ways = reads_both_ways

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` and whatever shows some conversations' images."""
        said: list[Answered] = [row["conversation"] for row in rows]
        asked = processed(self._processor, [each.prompt for each in said], [row["image"] for row in rows], "right")
        shape = asked["input_ids"].shape
        starts = [int(length) - each.dropped for length, each in zip(asked["attention_mask"].sum(-1), said, strict=True)]
        answers = [slice(start, start + len(each.tokens)) for start, each in zip(starts, said, strict=True)]
        length = max(answer.stop for answer in answers)
        batch = {
            name: _longer(value, answers, length)
            if getattr(value, "shape", ())[:2] == shape and not name.startswith(OTHERS)
            else value
            for name, value in asked.items()
        }
        batch["input_ids"][batch["attention_mask"] == 0] = self._processor.tokenizer.pad_token_id
        batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        for row, (answer, each) in enumerate(zip(answers, said, strict=True)):
            batch["input_ids"][row, answer] = batch["labels"][row, answer] = torch.tensor(each.tokens)
            if self._reads_both_ways:
                batch["token_type_ids"][row, answer] = 1
        return batch


def _longer(value: torch.Tensor, answers: Sequence[slice], length: int) -> torch.Tensor:
    """What says something of each token, up to each row's answer and going on through it as at the token before: text."""
    made = value.new_zeros((len(value), length, *value.shape[2:]))
    for row, answer in enumerate(answers):
        made[row, : answer.start] = value[row, : answer.start]
        made[row, answer] = value[row, answer.start - 1]
    return made
